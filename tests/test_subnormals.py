"""What decays ends at 0 rather than among numbers over which a CPU takes tens of times as long."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from neuropil._subnormals import leaky_sum, settled, without_subnormals
from neuropil.cli.settings import use_machine
from neuropil.experiments.machine import Machine
from neuropil.models import PlasticLayer, rate_by_norm
from neuropil.plasticity import PairSTDP, RewardModulated, SoftHebb, propose_
from neuropil.spiking import (
    AdaptiveLIF,
    ConductanceLIF,
    CurrentLIF,
    DeltaLIF,
    LIFState,
    SpikingSequential,
    simulate,
)
from test_stdp import RULES

TYPES = [torch.float32, torch.float64]
MODULATED = {"modulated": RewardModulated(PairSTDP()), "modulated, one reward": RewardModulated(per_sample=False)}


@pytest.fixture(autouse=True)
def as_they_are():
    """No flushing by the processor, which a command in this process may have asked for."""
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


def tensors(state):
    """All floating tensors of a nested state."""
    if isinstance(state, torch.Tensor):
        return [state] if state.is_floating_point() else []
    return [one for part in state or () for one in tensors(part)] if isinstance(state, tuple | list) else []


def fewest(state, size):
    """A nested state whose floating numbers are all of that size."""
    if isinstance(state, torch.Tensor):
        return torch.full_like(state, size) if state.is_floating_point() else state
    if state is None:
        return None
    parts = [fewest(part, size) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)


def subnormal(x):
    return int(((x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)).sum())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rule", [*RULES.values(), *MODULATED.values()], ids=[*RULES, *MODULATED])
def test_traces_of_a_rule_end_at_zero(rule, dtype):
    layer, size = nn.Linear(3, 2, bias=False, dtype=dtype), 1.3 * torch.finfo(dtype).tiny
    pre, post = torch.zeros(2, 3, dtype=dtype), torch.zeros(2, 2, dtype=dtype)
    memory = fewest(rule.init(layer, pre, post), size)
    assert tensors(memory)
    reward = {}
    if isinstance(rule, RewardModulated):
        reward = {"reward": torch.zeros(2 if rule.per_sample else (), dtype=dtype)}
    for _ in range(500):
        _, memory = rule.step(layer, pre, post, memory, **reward)
        assert sum(map(subnormal, tensors(memory))) == 0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "neuron", [DeltaLIF(), CurrentLIF(), AdaptiveLIF(theta_plus=0.3, b=0.2)], ids=lambda n: type(n)
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_state_of_neurons_ends_at_zero(neuron, alone, dtype):
    network = neuron if alone else SpikingSequential(nn.Linear(4, 4, bias=False, dtype=dtype), neuron)
    drive, tiny = torch.zeros(700, 2, 4, dtype=dtype), torch.finfo(dtype).tiny
    state = fewest(network.init(drive[0]), 40 * tiny)
    end = simulate(network, drive, state).state
    assert sum(map(subnormal, tensors(end))) == 0
    once = simulate(network, drive[:1], state).state
    assert all((part != 0).any() for part in tensors(once))  # it has gone through these numbers, not begun beyond them


class Conductances:
    """Neurons with both conductances, as a network for `simulate`."""

    neuron = ConductanceLIF(theta_plus=1e-3, tau_theta=0.7)

    def init(self, like):
        return self.neuron.init(like)

    def step(self, drive, state):
        return self.neuron.step(drive, drive, state)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_network_that_is_run_step_by_step_ends_at_zero(dtype):
    network, drive = Conductances(), torch.zeros(700, 2, 3, dtype=dtype)
    small = torch.full((2, 3), 3 * torch.finfo(dtype).tiny, dtype=dtype)
    state = network.init(drive[0])._replace(g_e=small, g_i=small, theta=small)
    end = simulate(network, drive, state).state
    assert sum(map(subnormal, tensors(end))) == 0
    assert (end.v != 0).all()


@pytest.mark.parametrize("rule", [PairSTDP(), PairSTDP(pairing="nearest"), RULES["triplet"]], ids=lambda r: type(r))
def test_a_layer_that_learns_ends_at_zero(rule):
    layer = PlasticLayer(nn.Linear(3, 2, bias=False), CurrentLIF(dt=rule.dt), rule, lr=1e-3)
    network, drive = SpikingSequential(layer), torch.zeros(700, 2, 3)
    state = fewest(network.init(drive[0]), 30 * torch.finfo(torch.float32).tiny)
    end = simulate(network, drive, state).state
    assert tensors(end)
    assert sum(map(subnormal, tensors(end))) == 0


@pytest.mark.parametrize("anti", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_shares_of_a_soft_competition_are_normal_numbers_or_zero(anti, dtype):
    steep = 90.0 if dtype == torch.float32 else 730.0
    u = torch.linspace(-steep, 0.0, 1000, dtype=dtype)[:, None] * torch.tensor([1.0, 0.0, 0.37], dtype=dtype)
    assert subnormal(torch.softmax(u, 1)) > 0
    y = SoftHebb(anti=anti).post(u).gain
    assert subnormal(y) == 0
    with torch.no_grad():
        shares = torch.softmax(u.double(), 1)
    torch.testing.assert_close(y.abs().double(), shares, rtol=1e-6, atol=2 * torch.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_leaky_sum_is_what_it_says(dtype, threads):
    before = torch.get_num_threads()
    rng = torch.Generator().manual_seed(3)
    for shape in ((), (0,), (7,), (3, 5), (2, 3, 37, 41)):
        old, new = (torch.randn(shape, generator=rng, dtype=dtype) for _ in range(2))
        old, new = old.masked_fill_(new > 1, torch.inf), new.masked_fill(new > 1.5, torch.nan)
        for a, b in ((old, new), (old.mT, new.mT) if old.ndim > 1 else (old, new)):
            torch.set_num_threads(threads)
            out = leaky_sum(a, 0.737, b)
            torch.set_num_threads(before)
            torch.testing.assert_close(out, 0.737 * a + b, rtol=1e-6, atol=1e-6, equal_nan=True)
    least = torch.full((9,), 1.1 * torch.finfo(dtype).tiny, dtype=dtype)
    assert not leaky_sum(-least, 0.5, torch.zeros_like(least)).any()
    assert leaky_sum(-least, 0.96, torch.zeros_like(least)).all()


def test_a_leaky_sum_broadcasts_or_is_refused_as_sums_are():
    row, rows = torch.full((1, 3), 0.3), torch.full((4, 3), 0.7)
    torch.testing.assert_close(leaky_sum(row, 0.41, rows), 0.41 * row + rows)
    torch.testing.assert_close(leaky_sum(rows, 0.41, row), 0.41 * rows + row)
    with pytest.raises(RuntimeError, match="must match the size"):
        leaky_sum(rows[:2], 0.41, rows)  # and reads nothing beyond its end
    layer, rule = nn.Linear(3, 2, bias=False), PairSTDP()
    memory = rule.init(layer, torch.zeros(1, 3), torch.zeros(1, 2))
    with pytest.raises((RuntimeError, ValueError)):
        rule.step(layer, torch.ones(4, 3), torch.ones(4, 2), memory._replace(pre=torch.zeros(2, 3)))


def test_a_leaky_sum_has_a_gradient():
    old, new = (torch.tensor([x, -x], requires_grad=True) for x in (0.3, 0.7))
    leaky_sum(old, 0.41, new).sum().backward()
    assert old.grad.tolist() == pytest.approx([0.41, 0.41])
    assert new.grad.tolist() == [1.0, 1.0]


def test_what_is_no_floating_number_stays():
    left, v = torch.arange(3, dtype=torch.int32), torch.tensor([1e-40, 0.5, torch.nan])
    state = settled((LIFState(v, v.half(), left), [None, 3]))
    assert isinstance(state[0], LIFState)
    assert state[1] == [None, 3]
    assert torch.equal(state[0].resting, left)
    assert state[0].v.nan_to_num(7.0).tolist() == [0.0, 0.5, 7.0]
    assert without_subnormals(left) is left
    own = settled({"v": torch.tensor([1e-40, 0.5]), "n": 3})
    assert (own["v"].tolist(), own["n"]) == ([0.0, 0.5], 3)


def test_rows_at_rest_do_not_look_cleared_where_the_processor_takes_them_for_zero():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 0.0]])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.3)
    rate_by_norm(optimizer)
    torch.set_flush_denormal(True)
    for change in (1.0, 1e-3, 1e-20):
        propose_(layer, torch.full((1, 2), change))
        optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[1.0, 0.0]]))


@dataclass(frozen=True)
class Config(Machine):
    seed: int = 3


def test_a_command_lets_the_processor_take_them_for_zero():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    torch.set_flush_denormal(False)
    least = torch.tensor([1e-39])
    assert (least * 1).item() != 0
    assert use_machine(config := Config()) == replace(config)
    assert (least * 1).item() == 0
