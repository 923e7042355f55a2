"""Spiking networks simulated from event to event, with exact gradients that stay smooth where spikes come and go."""

from neuropil.spiking.clock.conductance import ConductanceLIF, ConductanceState
from neuropil.spiking.clock.contract import Network
from neuropil.spiking.clock.counter import CounterState, SpikeCounter
from neuropil.spiking.clock.delays import AxonalDelay, DelayState
from neuropil.spiking.clock.encodings import BernoulliEncoding, PoissonEncoding, RateEncoding
from neuropil.spiking.clock.izhikevich import Izhikevich, IzhikevichState
from neuropil.spiking.clock.linear import (
    AdaptiveLIF,
    AdaptiveState,
    CurrentLIF,
    DeltaLIF,
    DeltaState,
    LIFState,
    lateral_inhibition,
)
from neuropil.spiking.clock.sequential import SpikingSequential
from neuropil.spiking.clock.simulate import Simulation, simulate
from neuropil.spiking.clock.statistics import firing_rates, interval_cv, synchrony
from neuropil.spiking.encoding import LatencyEncoding, LinearTimeEncoding, ThresholdEncoding
from neuropil.spiking.kernels.bundles import Plan
from neuropil.spiking.lif import LIF, LIFLayer, LIFNetwork, Membrane, simulate_lif
from neuropil.spiking.network import SpikingLayer, SpikingNetwork, SpikingOutput
from neuropil.spiking.qif import QIF, QIFLayer, QIFNetwork, QIFState, simulate_qif
from neuropil.spiking.raster import from_raster, to_raster
from neuropil.spiking.recurrent import RecurrentLIF, RecurrentQIF, simulate_recurrent_lif, simulate_recurrent_qif
from neuropil.spiking.theta import Theta, ThetaLayer, ThetaNetwork
from neuropil.spiking.times import Events, check_times, flatten_events, scatter_events

__all__ = [
    "LIF", "QIF", "AdaptiveLIF", "AdaptiveState", "AxonalDelay", "BernoulliEncoding", "ConductanceLIF",
    "ConductanceState", "CounterState", "CurrentLIF", "DelayState", "DeltaLIF", "DeltaState", "Events", "Izhikevich",
    "IzhikevichState", "LIFLayer", "LIFNetwork", "LIFState", "LatencyEncoding", "LinearTimeEncoding", "Membrane",
    "Network", "Plan", "PoissonEncoding", "QIFLayer", "QIFNetwork", "QIFState", "RateEncoding", "RecurrentLIF",
    "RecurrentQIF", "Simulation", "SpikeCounter", "SpikingLayer", "SpikingNetwork", "SpikingOutput",
    "SpikingSequential", "Theta", "ThetaLayer", "ThetaNetwork", "ThresholdEncoding", "check_times", "firing_rates",
    "flatten_events", "from_raster", "interval_cv", "lateral_inhibition", "scatter_events", "simulate", "simulate_lif",
    "simulate_qif", "simulate_recurrent_lif", "simulate_recurrent_qif", "synchrony", "to_raster",
]  # fmt: skip
