# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Write a rule
#
# A rule says with which weights the drive is taken, and who learns how much. Geometry, batches, checks and devices are
# the engine's.

# %%
from dataclasses import dataclass

import matplotlib.pyplot as plt
import neuropil as npl
import torch
from neuropil.plasticity import Chosen, Rule
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Rivals(Rule):
    """The winner moves towards its input, the runner-up a little away from it."""

    push: float = 0.2

    def post(self, u):  # (samples, units, *positions): the drive
        best = u.topk(2, dim=1).indices
        return Chosen(best, gains=(1.0, -self.push), decay=u)


rule, dense, convolution = Rivals(), nn.Linear(6, 4, bias=False), nn.Conv2d(2, 4, 3, padding=1, bias=False)
print(rule(dense, torch.rand(5, 6)).shape, rule(convolution, torch.rand(5, 2, 7, 7)).shape)

# %% [markdown]
# Test a law by loops that know nothing of the engine, in double precision. Its form is
# `dW = mean over samples of g x - g h W`, with h the drive here.

# %%
layer, inputs = nn.Linear(6, 4, bias=False).double(), torch.rand(5, 6).double()
by_hand = torch.zeros(4, 6).double()
for x in inputs:
    u = layer.weight.detach() @ x
    first, second = u.argsort(descending=True)[:2]
    by_hand[first] += x - u[first] * layer.weight.detach()[first]
    by_hand[second] -= 0.2 * (x - u[second] * layer.weight.detach()[second])
print("largest difference:", (rule(layer, inputs) - by_hand / 5).abs().max().item())

# %% [markdown]
# Is it local? The audit alters what a synapse may not see. It reads its layer, since units compete, and nothing above.

# %%
train, test = npl.load_data("digits", seed=0)
network = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
print(npl.audit(rule, network, train[:40].pixels(), train.y[:40], layers=("1",)))

# %% [markdown]
# Backpropagation fails the same audit:


# %%
def backprop(model, images, labels):
    F.cross_entropy(model(images), labels).backward()


print(npl.audit(backprop, network, train[:40].pixels(), train.y[:40]))

# %% [markdown]
# Let it learn, on a network that `attach` prepares, and ask whether that made a difference.

# %%
torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU())
learner = npl.attach(model, {"1": rule}, train.pixels())
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
moved = []
for _ in range(5):
    before = model[1].weight.detach().clone()
    for batch in train.batches(100):
        learner.propose_(batch.x)
        optimizer.step()
        learner.settle_()
    moved.append((model[1].weight - before).norm().item() / before.norm().item())
print(npl.diagnose(model, learner, train.pixels(), train.y))

# %%
_, axis = plt.subplots(figsize=(5, 2.5))
axis.plot(range(1, 6), moved, marker="o")
axis.set(xlabel="pass", ylabel="relative change of the weights", ylim=(0, None))
plt.show()

# %% [markdown]
# Next: [a rule of your own](../rules.md#a-rule-of-your-own); for spikes, [STDP](../stdp.md#a-rule-of-your-own).
