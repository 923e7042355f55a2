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
# # Spikes by gradient
#
# Networks of quadratic integrate-and-fire neurons have exact gradients of spike times. This is not a local rule: it is
# the spiking counterpart of backpropagation.

# %%
import matplotlib.pyplot as plt
import neuropil as npl
import torch
from neuropil.models import SpikeTimeTraining, SpikingClassifier
from neuropil.spiking import LIF, LatencyEncoding, Theta, ThetaNetwork

torch.manual_seed(0)

# %% [markdown]
# One neuron, one input spike. Its spike time depends on the weight without a jump, even where the spike leaves the
# trial: past the end a pseudospike continues it.

# %%
neuron, t_end = Theta(tau=1.9, drive=1.25), 3.0
weights = torch.linspace(-2, 4, 121, dtype=torch.float64, requires_grad=True)
phase = torch.full_like(weights, 1.5)
after = neuron.jump(phase + 1.0, weights)  # an input after 1 s of flow
spike = 1.0 + neuron.time_to_spike(after)
(slope,) = torch.autograd.grad(spike.sum(), weights)

_, axes = plt.subplots(1, 2, figsize=(9, 2.8))
axes[0].plot(weights.detach(), spike.detach())
axes[0].axhline(t_end, color="grey", linestyle=":")
axes[0].set(xlabel="weight", ylabel="spike time, s", title="dotted: the end of the trial")
axes[1].plot(weights.detach(), slope)
axes[1].set(xlabel="weight", ylabel="its exact derivative")
plt.show()

# %% [markdown]
# The derivative agrees with finite differences:

# %%
numeric = (spike[2:] - spike[:-2]) / (weights[2:] - weights[:-2])
print("largest difference:", (numeric - slope[1:-1]).abs().max().item())

# %% [markdown]
# A network returns its spikes, and times of output neurons that are always finite.

# %%
network = ThetaNetwork((4, 20, 3), neuron=Theta(tau=1.9, drive=1.25), t_end=2.0)
output = network(torch.rand(8, 4))
print([tuple(spikes.shape) for spikes in output.spikes], output.times.shape)

# %% [markdown]
# A classifier: brighter pixels spike earlier, and the output neuron that fires first is the answer.

# %%
train, test = npl.load_data("digits", seed=0)
encode = LatencyEncoding(levels=8)
training = SpikeTimeTraining(epochs=15, batch=50, lr=1e-2, late_weight=0.5, min_steps=1)
model = SpikingClassifier((50,), encode=encode, t_end=3.0, training=training)
model.fit(train, rng=torch.Generator().manual_seed(0))
print(f"with pseudospikes {npl.accuracy(model, test):.1%}")
silent = (model.predict_from_spikes(test.pixels()) == -1).float().mean()
print(f"ordinary spikes alone: no output spike for {silent:.1%}")

# %% [markdown]
# One trial: the spikes of input, hidden and output neurons.

# %%
image = test[:1].pixels()
spikes = [encode(image)[..., None], *model.network_(encode(image)).spikes]
_, axis = plt.subplots(figsize=(7, 3.5))
row = 0
for layer, colour in zip(spikes, ("grey", "tab:blue", "tab:red"), strict=True):
    times = layer.detach()[0]
    neurons, _ = times.isfinite().nonzero(as_tuple=True)
    axis.scatter(times[times.isfinite()], neurons + row, s=6, color=colour)
    row += len(times)
axis.set(xlabel="time, s", ylabel="neuron", xlim=(0, 3), title=f"a {test.y[0].item()}: input, hidden, output")
plt.show()

# %% [markdown]
# For contrast, leaky neurons lose their spikes with a jump; see [spiking networks](../spiking.md).

# %%
print(LIF())
