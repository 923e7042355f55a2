"""Spiking networks from event to event, with exact gradients that stay smooth where spikes come and go."""

from neuropil.spiking.encoding import LatencyEncoding as LatencyEncoding
from neuropil.spiking.encoding import LinearTimeEncoding as LinearTimeEncoding
from neuropil.spiking.encoding import ThresholdEncoding as ThresholdEncoding
from neuropil.spiking.qif import QIF as QIF
from neuropil.spiking.qif_layer import QIFLayer as QIFLayer
from neuropil.spiking.qif_layer import QIFNetwork as QIFNetwork
from neuropil.spiking.qif_layer import Trial as Trial
from neuropil.spiking.qif_layer import simulate_qif as simulate_qif
from neuropil.spiking.recurrent import RecurrentQIF as RecurrentQIF
from neuropil.spiking.recurrent import simulate_recurrent_qif as simulate_recurrent_qif
from neuropil.spiking.theta import Theta as Theta
from neuropil.spiking.theta_layer import ThetaLayer as ThetaLayer
from neuropil.spiking.theta_layer import ThetaNetwork as ThetaNetwork
from neuropil.spiking.times import Events as Events
from neuropil.spiking.times import check_times as check_times
from neuropil.spiking.times import flatten_events as flatten_events
from neuropil.spiking.times import scatter_events as scatter_events
