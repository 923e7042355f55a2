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
# # Attack it
#
# An attack that fails looks like a robust network. So every curve comes with checks, and every adversarial image is
# clipped to its budget and classified again.

# %%
import matplotlib.pyplot as plt
import neuropil as npl
import torch
from neuropil.evaluate.robustness import PGD, Linf, Noise, Square, accuracy_under
from torch import nn

train, test = npl.load_data("digits", seed=0)
rng = torch.Generator().manual_seed(0)

# %% [markdown]
# Hebbian features and the same network trained by backpropagation:

# %%
body = npl.dense_body(train, 100, n=2.0)
npl.init_examples_(body, train, rng)
learning = npl.LocalLearning({"hidden": npl.KrotovHopfield(p=2.0, k=7, average=True)}, epochs=4, lr=0.3)
local = npl.FeatureClassifier(body, learning=learning).fit(train, rng=rng)

plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU())
backprop = npl.BackpropClassifier(plain, training=npl.SupervisedTraining(epochs=15, batch=50, min_steps=1))
backprop.fit(train, rng=rng)
models = {"Krotov-Hopfield": local, "backprop": backprop}
print({name: round(npl.accuracy(model, test), 3) for name, model in models.items()})

# %% [markdown]
# Projected gradient descent within a largest change per pixel, beside random noise of the same size:

# %%
sizes = (0.05, 0.1, 0.15, 0.2)
few = test[:150]
results = {}
for name, model in models.items():
    for title, attack in ((name, PGD(model.forward, Linf())), (f"{name}, noise", Noise(Linf()))):
        results[title] = [accuracy_under(attack, model, few, norm=Linf(), size=size) for size in sizes]

_, axis = plt.subplots(figsize=(6, 3.2))
for name, values in results.items():
    axis.plot(sizes, values, marker="o", label=name, linestyle=":" if "noise" in name else "-")
axis.set(xlabel="largest change of a pixel", ylabel="classified correctly", ylim=(0, 1.02))
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# Could the gradient mislead the attack? An attack that asks for scores alone must not do better.

# %%
for name, model in models.items():
    score_based = accuracy_under(Square(model.decision_function, Linf()), model, few, norm=Linf(), size=0.1)
    print(f"{name} at 0.1: PGD leaves {results[name][1]:.1%} correct, Square {score_based:.1%}")

# %% [markdown]
# An image before and after:

# %%
attack, image = PGD(backprop.forward, Linf()), test[:8]
moved = attack(image, 0.15)
_, axes = plt.subplots(2, 8, figsize=(8, 2.4))
for row, pixels in zip(axes, (image.pixels(), moved), strict=True):
    for axis, picture, label in zip(row, pixels, backprop.predict(pixels), strict=True):
        axis.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_title(label.item(), fontsize=9)
plt.show()

# %% [markdown]
# These are one seed and a weak suite. For claims take `neuropil compare --attack`, with all attacks and all checks; see
# [robustness](../robustness.md).
