"""One network in several processes, each with a part of the data: `share` the network, take a `part` of each batch."""

from neuropil.plasticity.sharing import part, share, start, stop

__all__ = ["part", "share", "start", "stop"]
