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
# # Your own images
#
# A folder with a sub-folder of image files for each class is a data set. Here is one, made of the digits.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import neuropil as npl
import torch
from neuropil.evaluate import confusion
from PIL import Image

folder = Path(tempfile.mkdtemp()) / "photos"
digits, _ = npl.load_data("digits")
words = ["zero", "one", "two", "three"]
for number, (image, label) in enumerate(zip(digits.pixels()[:, 0], digits.y.tolist(), strict=True)):
    if label < len(words):
        (folder / words[label]).mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((image * 255).byte().numpy())
        grey.resize((16, 16)).save(folder / words[label] / f"{number}.png")
print(sorted(path.name for path in folder.iterdir()))

# %% [markdown]
# `Split.from_folder` reads and resizes them. Class names are kept. Hold test images out before anything is chosen.

# %%
images = npl.Split.from_folder(folder, size=(12, 12))
train, test = npl.hold_out(images, 0.25, seed=0)
print(train, test, images.names)

# %% [markdown]
# Features without labels, a linear readout with them:

# %%
rng = torch.Generator().manual_seed(0)
body = npl.dense_body(train, 100, n=2.0)
npl.init_examples_(body, train, rng)
learning = npl.LocalLearning({"hidden": npl.KrotovHopfield(p=2.0, k=5, average=True)}, epochs=6, lr=0.3)
model = npl.FeatureClassifier(body, learning=learning).fit(train, rng=rng)
print(f"{npl.accuracy(model, test):.1%} of {len(test)} test images")

# %% [markdown]
# Which classes are mixed up? Rows are the true classes.

# %%
print(images.names)
print(confusion(model, test))

# %% [markdown]
# What the units look for:

# %%
_, axes = plt.subplots(2, 10, figsize=(9, 2))
for axis, weight in zip(axes.flat, model.feature_layers()[0].weight, strict=False):
    axis.imshow(weight.detach().reshape(12, 12), cmap="RdBu_r")
    axis.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# One file keeps the model. It holds tensors and settings, no code.

# %%
file = model.save(folder.parent / "mine.safetensors")
again = npl.load(file)
print(file.stat().st_size // 1024, "KiB;", torch.equal(again.predict(test.x), model.predict(test.x)))

# %% [markdown]
# The command line compares all methods on the same folder:
#
# ```console
# $ neuropil compare --data photos/ --learners krotov_hopfield backprop linear
# ```
#
# Next: [data](../data.md) for arrays, tables and Datasets of torch.
