"""The benchmark of STDP: contestants do the same, rows have bounds, and a peer takes part where it is installed."""

import math
from types import SimpleNamespace

import pytest
import torch

from neuropil.bench import _peers, stdp
from neuropil.plasticity import PairSTDP

SMALL = stdp.Config(inputs=30, units=20, batch=8, maps=2, side=7, kernels=3, kernel=3, conv_batch=4, repeats=1)


def test_the_benchmark_has_a_row_for_every_case():
    rows = stdp.main(SMALL)
    convolutions = [stdp.CONVOLUTION, stdp.PRESENTED]
    assert [row["what"] for row in rows] == [*stdp.DENSITIES, *convolutions, "simulate", "presentation"]
    assert all(stdp.cells(row)["step"] for row in rows)
    stdp.CAPTION.format(**rows[0])


@pytest.mark.parametrize("name", ["10 %", stdp.CONVOLUTION])
def test_the_benchmark_measures_the_rule_beside_its_own_law(name):
    (layer, trains), rule = stdp.case(name, SMALL), PairSTDP(a_plus=0.9)
    plain = stdp.Plain(torch.zeros_like(layer.weight), rule, trains)
    ours = stdp.Stepper(layer, rule, trains)
    for _ in range(3):
        before = plain.weight.clone()
        plain.step()
        torch.testing.assert_close(ours.change(), (plain.weight - before) / stdp.RATE, rtol=1e-3, atol=1e-4)
    weight, (pre, post) = layer.weight, trains[0]
    seen = post.numel() * weight[0].numel()  # pairs that some weight sees; each takes a product and a sum, twice
    assert stdp.least(layer, pre, post)["operations"] == 2 * 2 * seen
    assert stdp.least(layer, pre, post)["bytes"] == 4 * (2 * weight.numel() + 3 * (pre.numel() + post.numel()))


def test_both_presentations_of_the_benchmark_see_the_same_spikes_and_learn_the_same(monkeypatch):
    monkeypatch.setattr(stdp, "RATE", 0.01)
    monkeypatch.setattr(stdp, "clock", lambda contestants, **_: {n: [run() or 1.0] for n, run in contestants.items()})
    made = []
    for kind in (stdp.Stepper, stdp.Plain):
        monkeypatch.setattr(kind, "__init__", keeping(kind.__init__, made))
    stdp.convolved(SMALL)
    ours, plain = made
    torch.testing.assert_close(ours.layer.weight, plain.weight, rtol=1e-4, atol=1e-5)
    assert 0.01 < plain.y.mean() < 3  # neurons have spiked


def test_both_simulations_of_the_benchmark_count_the_same_spikes(monkeypatch):
    counts = {}
    keep = lambda contestants, **_: {name: [counts.update({name: run()}) or 1.0] for name, run in contestants.items()}
    monkeypatch.setattr(stdp, "clock", keep)
    stdp.simulated(stdp.Config(inputs=90, units=70, batch=8))
    assert torch.equal(counts["step"], counts["plain"])
    assert 0.01 < counts["step"].mean() / 64 < 0.3


def keeping(init, made):
    def start(self, *args):
        init(self, *args)
        made.append(self)

    return start


class FakeBindsNET:
    """Modules with the names and the laws that the benchmark asks BindsNET for."""

    class Input:
        def __init__(self, n, traces, traces_additive, tc_trace):
            assert traces
            assert traces_additive
            self.n, self.tau, self.x = n, tc_trace, 0.0

        def set_batch_size(self, batch):
            self.batch = batch

        def compute_decays(self, dt):
            self.kept = math.exp(-dt / self.tau)

        def forward(self, spikes):
            self.s, self.x = spikes, self.kept * self.x + spikes

    class Connection:
        def __init__(self, source, target, update_rule, nu, reduction, w):
            assert (update_rule, reduction) == ("PostPre", torch.sum)
            self.source, self.target, self.nu, self.w = source, target, nu, w

        def update(self, learning):
            self.w -= self.nu[0] * self.source.s.T @ self.target.x
            self.w += self.nu[1] * self.source.x.T @ self.target.s


def test_bindsnet_takes_part_where_it_is_installed(monkeypatch):
    config, real = SMALL, _peers.import_module
    monkeypatch.setattr(_peers, "import_module", lambda name: real("no_such_module" if "bindsnet" in name else name))
    row = stdp.row("10 %", config)
    assert "peer" not in row
    assert not any("BindsNET" in name for name in stdp.cells(row))
    rooms = {
        "bindsnet.network.nodes": FakeBindsNET,
        "bindsnet.network.topology": FakeBindsNET,
        "bindsnet.learning.learning": SimpleNamespace(PostPre="PostPre"),
    }
    monkeypatch.setattr(_peers, "import_module", lambda name: rooms[name])
    monkeypatch.setattr(_peers, "version", lambda name: "9.8")
    row = stdp.row("10 %", config)
    assert row["peer_per_step"] == pytest.approx(row["peer_s"] / row["step_s"])
    assert list(stdp.cells(row))[-1] == "BindsNET 9.8"
    layer, trains = stdp.case("10 %", config)
    rule, start = PairSTDP(17e-3, 23e-3, 0.9, 0.7, dt=1.3e-3), torch.zeros(20, 30)
    _, step = _peers.bindsnet(start, rule, trains, 0.3)
    for _ in range(3):
        step()
    want, memory = start, rule.init(layer, *trains[0])
    for pre, post in trains[:3]:
        change, memory = rule.step(layer, pre, post, memory)
        together = (0.9 - 0.7) * post.T @ pre / len(pre)  # there spikes of the same step count
        want = want + 0.3 * (change + together)
    torch.testing.assert_close(step.weight.T, want)
