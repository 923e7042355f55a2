"""How often the host waits for a GPU where Triton's kernels run; `test_gpu.py` runs this in Triton's interpreter.

The stand-in of `other_device.py` counts. Kernels take its tensors, whose numbers are on the CPU.
"""

from types import SimpleNamespace

import pytest
import torch
from triton.runtime.interpreter import InterpretedFunction

from neuropil.data import digits
from neuropil.models import SpikeTimeTraining, SpikingClassifier
from neuropil.spiking import QIF
from neuropil.spiking.kernels.dispatch import gpu_kernels
from other_device import inside, other_device

MOST = {"theta": (None, 6), "qif": (QIF(), 6)}  # in a step of a network of two layers


@pytest.fixture(autouse=True)
def launched(monkeypatch):
    """Kernels take tensors of the stand-in."""
    run = InterpretedFunction.run

    def unwrapped(self, *args, **settings):
        return run(self, *inside(args), **settings)

    monkeypatch.setattr(InterpretedFunction, "run", unwrapped)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=1))


@pytest.mark.parametrize("name", MOST)
def test_a_step_of_a_spiking_network_waits_as_often_as_is_said(name):
    neuron, most = MOST[name]
    images, learned = digits(seed=0)[0], []
    for device in "cuda", "cpu":
        waited = []
        with other_device(**gpu_kernels()) as seen:
            for examples in (8, 16):  # two steps, and four
                seen.clear()
                model = SpikingClassifier((3,), neuron=neuron, training=SpikeTimeTraining(1, 4, min_steps=1))
                model.fit(images[:examples].to(device), rng=torch.Generator().manual_seed(0))
                waited.append(seen.copy())
            learned.append([one.detach().cpu() for one in model.network_.parameters()])
        if device == "cuda":
            steps = waited[1] - waited[0]
    torch.testing.assert_close(*learned, rtol=1e-3, atol=1e-4)
    assert sum(steps.values()) == 2 * most, steps
