"""Spiking networks from event to event, with exact gradients that stay smooth where spikes come and go."""

from neuropil.events.qif import QIF as QIF
from neuropil.events.qif_layer import QIFLayer as QIFLayer
from neuropil.events.qif_layer import QIFNetwork as QIFNetwork
from neuropil.events.qif_layer import Trial as Trial
from neuropil.events.qif_layer import qif_trial as qif_trial
from neuropil.events.recurrent import RecurrentQIF as RecurrentQIF
from neuropil.events.recurrent import recurrent_trial as recurrent_trial
from neuropil.events.theta import Theta as Theta
from neuropil.events.theta_layer import ThetaLayer as ThetaLayer
from neuropil.events.theta_layer import ThetaNetwork as ThetaNetwork
from neuropil.events.times import Events as Events
from neuropil.events.times import check_times as check_times
from neuropil.events.times import flatten_events as flatten_events
from neuropil.events.times import scatter_events as scatter_events
