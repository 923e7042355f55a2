"""One network in several processes: each has a part of the data (`share`, `part`) or some layers (`pipeline`)."""

from neuropil.distributed.pipeline import Pass, Stage, pipeline
from neuropil.distributed.stages import in_stages
from neuropil.plasticity.joint import together
from neuropil.plasticity.sharing import part, share, start, stop

__all__ = ["Pass", "Stage", "in_stages", "part", "pipeline", "share", "start", "stop", "together"]
