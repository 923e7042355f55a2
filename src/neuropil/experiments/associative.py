"""The hidden layers that baselines of associative networks share."""

from collections import OrderedDict

from torch import Generator, nn

from neuropil.data import Split


def hidden_layers(train: Split, units: tuple[int, ...], rng: Generator) -> nn.Sequential:
    """Dense layers with the activation of associative networks, min(max(u, 0), 1), initialised by Glorot's rule."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flat=nn.Flatten())
    sizes = (train.x[0].numel(), *units)
    for k, (inputs, outputs) in enumerate(zip(sizes, units), start=1):
        layer = nn.Linear(inputs, outputs)
        nn.init.xavier_normal_(layer.weight, generator=rng)
        nn.init.zeros_(layer.bias)
        layers["hidden" if k == 1 else f"hidden{k}"] = layer
        layers[f"active{k}"] = nn.Hardtanh(0, 1)
    return nn.Sequential(layers)
