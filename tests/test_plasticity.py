"""Laws of the dynamics: where each rule ends when it is left to run."""

import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

from neuropil.bench import plasticity as bench
from neuropil.errors import Refusal
from neuropil.plasticity import BCM, HardWTA, KrotovHopfield, Oja, Sanger, SoftHebb


def gaussian(n=400, spread=(3.0, 2.0, 1.4, 0.7, 0.5, 0.3)):
    """Centred samples with distinct principal components in random directions, and those components."""
    rng = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(len(spread), len(spread), generator=rng, dtype=torch.float64)).Q
    x = torch.randn(n, len(spread), generator=rng, dtype=torch.float64) * torch.tensor(spread) @ turn.T
    x = x - x.mean(0)
    vectors = torch.linalg.eigh(x.T @ x / n).eigenvectors
    return x, vectors.flip(1).T


def learn(rule, layer, x, steps, rate, anneal=False):
    """`steps` of plain ascent along the mean change over the whole of `x`."""
    for step in range(steps):
        share = 1 - step / steps if anneal else 1
        with torch.no_grad():
            layer.weight += rate * share * rule(layer, x)
    return layer.weight.detach()


def dense(inputs, units, std=0.3):
    torch.manual_seed(0)
    layer = nn.Linear(inputs, units, bias=False).double()
    nn.init.normal_(layer.weight, std=std)
    return layer


def test_oja_finds_the_first_principal_component():
    x, components = gaussian()
    weight = learn(Oja(), dense(6, 1), x, 400, 0.05)
    torch.testing.assert_close(weight[0] * (weight[0] @ components[0]).sign(), components[0], rtol=0, atol=1e-8)


def test_sanger_finds_the_first_components_in_order():
    x, components = gaussian()
    weight = learn(Sanger(), dense(6, 3), x, 1500, 0.05)
    signs = (weight * components[:3]).sum(1, keepdim=True).sign()
    torch.testing.assert_close(weight * signs, components[:3], rtol=0, atol=1e-6)


def test_bcm_becomes_selective():
    """Two patterns of probability 1/2: the stable fixed points answer 2 to one of them and 0 to the other."""
    x = torch.tensor([[1.0, 0.2, 0.0], [0.3, 1.0, 0.1]], dtype=torch.float64)
    layer = dense(3, 4)
    layer.weight.data.abs_()
    learn(BCM(), layer, x, 3000, 0.05)
    answers = layer(x).T.sort(1).values
    torch.testing.assert_close(answers.detach(), torch.tensor([[0.0, 2.0]]).double().expand(4, 2), rtol=0, atol=1e-4)


@pytest.mark.parametrize("p", [2.0, 3.0])
def test_rows_that_win_converge_to_unit_p_norm(p):
    torch.manual_seed(2)
    x = torch.randn(300, 12, dtype=torch.float64)
    weight = learn(KrotovHopfield(p=p, k=2, delta=0.1), dense(12, 5, std=1.0), x, 1500, 0.3, anneal=True)
    wins = (weight.sign() * weight.abs() ** (p - 1) @ x.T).argmax(0).bincount(minlength=5)
    assert wins.min() > 30
    torch.testing.assert_close((weight.abs() ** p).sum(1), torch.ones(5).double(), rtol=0, atol=1e-6)


def test_hard_winner_take_all_finds_cluster_means():
    torch.manual_seed(3)
    centres = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 1)
    x = torch.cat([centre + 0.1 * torch.randn(50, 8, dtype=torch.float64) for centre in centres])
    x = x / x.norm(dim=1, keepdim=True)
    layer = dense(8, 4)
    layer.weight.data = x[::50].clone()
    weight = learn(HardWTA(), layer, x, 300, 0.5)
    torch.testing.assert_close(weight, x.view(4, 50, 8).mean(1), rtol=0, atol=1e-9)


def test_soft_hebb_rows_converge_to_unit_norm():
    torch.manual_seed(4)
    x = torch.randn(200, 6, dtype=torch.float64)
    norms = learn(SoftHebb(tau=0.5), dense(6, 5), x / x.norm(dim=1, keepdim=True), 3000, 0.5).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=1e-6)


STEPS = """
import resource, torch
from torch import nn
from neuropil.plasticity import KrotovHopfield, SoftHebb, propose_
layer, x = nn.Linear(784, 2000, bias=False), torch.rand(20, 784)
nn.init.normal_(layer.weight)
optimizer = torch.optim.SGD(layer.parameters(), lr=1e-8)
use = []
for step in range(25):
    for rule in KrotovHopfield(), SoftHebb():
        propose_(layer, rule(layer, x))
        optimizer.step()
    use.append(resource.getrusage(resource.RUSAGE_SELF))
print(use[4].ru_maxrss, use[-1].ru_maxrss, use[4].ru_minflt, use[-1].ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults and memory as Linux does")
def test_memory_is_flat_over_batches_and_is_used_again():
    """A change that the system has to hand out anew costs 1500 page faults (of 4 KiB) a step."""
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    high, higher, faults, more = map(int, done.stdout.split())
    assert higher - high < 16 * 1024  # KiB after 40 steps; the change of one step is 6 MiB
    assert more - faults < 40 * 200


def test_the_bench_compares_a_rule_with_its_own_textbook():
    layer, x = bench.sample(bench.Config(inputs=70, units=80), 90)
    for name, case in bench.CASES.items():
        rule = replace(case.rule, ranking_dtype=None) if "bfloat16" in name else case.rule
        want = case.textbook(layer.weight.detach(), x)
        torch.testing.assert_close(
            rule(layer, x, reduction="sum").to_dense(), want, rtol=1e-4, atol=1e-5 * want.abs().max().item()
        )


def test_the_bench_gives_a_row_per_rule_and_batch():
    rows = bench.main(bench.Config(inputs=16, units=12, batches=(4, 8), repeats=2, rules=("Krotov-Hopfield", "Oja")))
    assert [(row["rule"], row["batch"]) for row in rows] == [
        *product(("Krotov-Hopfield", "Oja"), (4,)),
        *product(("Krotov-Hopfield", "Oja"), (8,)),
    ]
    assert all(row[key] > 0 for row in rows for key in row if key not in ("rule", "device"))
    assert all(12 * 16 * 4 < row["peak_extra_mb"] * 2**20 < 20 * 12 * 16 * 4 for row in rows)  # change and powers
    with pytest.raises(Refusal, match="Did you mean 'Oja'"):
        bench.main(bench.Config(rules=("Oia",)))
