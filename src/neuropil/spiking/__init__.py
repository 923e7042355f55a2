"""Spiking networks simulated from event to event, with exact gradients that stay smooth where spikes come and go."""

from neuropil.spiking.encoding import LatencyEncoding, LinearTimeEncoding, ThresholdEncoding
from neuropil.spiking.kernels.bundles import Plan
from neuropil.spiking.lif import LIF
from neuropil.spiking.network import SpikingLayer, SpikingNetwork, SpikingOutput
from neuropil.spiking.qif import QIF, QIFLayer, QIFNetwork, QIFState, simulate_qif
from neuropil.spiking.recurrent import RecurrentQIF, simulate_recurrent_qif
from neuropil.spiking.theta import Theta, ThetaLayer, ThetaNetwork
from neuropil.spiking.times import Events, check_times, flatten_events, scatter_events

__all__ = [
    "LIF", "QIF", "Events", "LatencyEncoding", "LinearTimeEncoding", "Plan", "QIFLayer", "QIFNetwork", "QIFState",
    "RecurrentQIF", "SpikingLayer", "SpikingNetwork", "SpikingOutput", "Theta", "ThetaLayer", "ThetaNetwork",
    "ThresholdEncoding", "check_times", "flatten_events", "scatter_events", "simulate_qif", "simulate_recurrent_qif",
]  # fmt: skip
