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
# # Your own CNN
#
# A local rule on a plain convolutional network: attach, learn, and find out whether learning helped.

# %%
import matplotlib.pyplot as plt
import neuropil as npl
import torch
from neuropil.evaluate import linear_probe
from torch import nn

torch.manual_seed(0)
train, test = npl.load_data("digits", seed=0)
print(train, test)

# %% [markdown]
# Any network will do. `attach` names the layers that learn and the rule of each. It centres their inputs, starts units
# at patches of the images and sets biases. The architecture stays as it is.

# %%
model = nn.Sequential(
    nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 4 * 4, 100), nn.ReLU()
)
learner = npl.attach(model, {"0": npl.ExplainAway(), "4": npl.ExplainAway()}, train.pixels())
start = model[0].weight.detach().clone()

# %% [markdown]
# The loop is the usual one, without a loss: the rule proposes, the optimiser writes, and `settle_` restores the norms.
# No gradient crosses a layer, and no label is used.

# %%
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
for epoch in range(5):
    for batch in train.batches(100, shuffle=torch.Generator().manual_seed(epoch)):
        learner.propose_(batch.x)
        optimizer.step()
        learner.settle_()

# %% [markdown]
# What the kernels look for, before and after learning:

# %%
_, axes = plt.subplots(2, 16, figsize=(9, 1.5))
for row, kernels in zip(axes, (start, model[0].weight.detach()), strict=True):
    for axis, kernel in zip(row, kernels[:, 0], strict=True):
        axis.imshow(kernel, cmap="RdBu_r", vmin=-kernel.abs().max(), vmax=kernel.abs().max())
        axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("start")
axes[1, 0].set_ylabel("learned")
plt.show()

# %% [markdown]
# Did it help? `diagnose` fits a linear probe to each layer: as it was before, with start and bias alone, and as it is.
# It says what is beyond the noise, and it does not flatter: 8x8 images under padded 5x5 kernels are a hard case.

# %%
print(npl.diagnose(model, learner, train.pixels(), train.y))

# %% [markdown]
# A readout with labels makes it a classifier. The features stay as they are.

# %%
with torch.no_grad():
    features = [npl.Split(model(split.pixels()), split.y, 10) for split in (train, test)]
print(f"linear readout: {linear_probe(*features):.1%} of the test images")

# %% [markdown]
# Next: [rules](../rules.md) has the settings of each rule, [which rule for what](../choose.md) the numbers.
