"""Spiking networks simulated from event to event, with exact gradients that stay smooth where spikes come and go."""

from neuropil.spiking.encoding import LatencyEncoding as LatencyEncoding
from neuropil.spiking.encoding import LinearTimeEncoding as LinearTimeEncoding
from neuropil.spiking.encoding import ThresholdEncoding as ThresholdEncoding
from neuropil.spiking.kernels.bundles import Plan as Plan
from neuropil.spiking.lif import LIF as LIF
from neuropil.spiking.network import SpikingLayer as SpikingLayer
from neuropil.spiking.network import SpikingNetwork as SpikingNetwork
from neuropil.spiking.network import SpikingOutput as SpikingOutput
from neuropil.spiking.qif import QIF as QIF
from neuropil.spiking.qif import QIFLayer as QIFLayer
from neuropil.spiking.qif import QIFNetwork as QIFNetwork
from neuropil.spiking.qif import QIFState as QIFState
from neuropil.spiking.qif import simulate_qif as simulate_qif
from neuropil.spiking.recurrent import RecurrentQIF as RecurrentQIF
from neuropil.spiking.recurrent import simulate_recurrent_qif as simulate_recurrent_qif
from neuropil.spiking.theta import Theta as Theta
from neuropil.spiking.theta import ThetaLayer as ThetaLayer
from neuropil.spiking.theta import ThetaNetwork as ThetaNetwork
from neuropil.spiking.times import Events as Events
from neuropil.spiking.times import check_times as check_times
from neuropil.spiking.times import flatten_events as flatten_events
from neuropil.spiking.times import scatter_events as scatter_events

__all__ = [
    "LIF",
    "QIF",
    "Events",
    "LatencyEncoding",
    "LinearTimeEncoding",
    "Plan",
    "QIFLayer",
    "QIFNetwork",
    "QIFState",
    "RecurrentQIF",
    "SpikingLayer",
    "SpikingNetwork",
    "SpikingOutput",
    "Theta",
    "ThetaLayer",
    "ThetaNetwork",
    "ThresholdEncoding",
    "check_times",
    "flatten_events",
    "scatter_events",
    "simulate_qif",
    "simulate_recurrent_qif",
]
