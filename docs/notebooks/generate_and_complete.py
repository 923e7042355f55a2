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
# # A network that generates and completes
#
# One network of mSTDP synapses classifies, generates and completes, depending on what is clamped. It is a network of
# rates that learns by the differential Hebbian rule; no gradient crosses a layer.

# %%
import matplotlib.pyplot as plt
import neuropil as npl
import torch
from neuropil.associative import CLASSIFY, CLASSIFY_PARTIAL, GENERATE, AssociativeNetwork, AssociativeTraining
from neuropil.data.masks import image_mask


def show(rows, titles):
    _, axes = plt.subplots(len(rows), len(rows[0]), figsize=(8, 0.9 * len(rows)), squeeze=False)
    for row, title, line in zip(rows, titles, axes, strict=True):
        for image, axis in zip(row, line, strict=True):
            axis.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center")
    plt.show()


# %% [markdown]
# One that has learned already is in the package:

# %%
network = npl.load("digits-mstdp")
train, test = npl.load_data("digits", seed=5)
print(f"classifies {npl.accuracy(network, test):.1%} of {len(test)} test images")

# %% [markdown]
# Clamp a label and the network settles on an image. A sample is accepted once the network itself classifies it as the
# requested class.

# %%
samples = network.generate(torch.arange(10), 3, torch.Generator().manual_seed(0))
images = samples.images.reshape(10, 3, 64).transpose(0, 1)
show(images, ["1st", "2nd", "3rd"])

# %% [markdown]
# Clamp the upper half of an image, and the network fills in the rest. The label may be given, too.

# %%
upper = image_mask("top", test.x.shape[1:])
few = test[:10]
completed = network.complete(few.x, upper)
known = few.pixels() * upper
show([known.flatten(1), completed.flatten(1), few.pixels().flatten(1)], ["given", "completed", "true"])
right = (network.predict(test.x, upper) == test.y).float().mean()
print(f"classified correctly from the upper half alone: {right:.1%}")

# %% [markdown]
# Train a small one. Tasks say what is given and what is asked; each step has a free and a nudged phase.

# %%
training = AssociativeTraining(tasks=(CLASSIFY, CLASSIFY_PARTIAL, GENERATE), epochs=8, batch=50)
small = AssociativeNetwork((64,), generation_units=64, completion_units=64, training=training)
small.fit(train[:600], rng=torch.Generator().manual_seed(0))
print(f"600 images, 8 passes: {npl.accuracy(small, test):.1%}")

# %% [markdown]
# Next: [associative networks](../associative.md) has the settings, and what was measured.
