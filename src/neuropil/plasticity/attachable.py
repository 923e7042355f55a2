"""What `attach` can work on: models in one process, layers that a pass reaches, and rules whose units compete."""

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from neuropil.errors import require
from neuropil.plasticity.engine import Rule
from neuropil.plasticity.geometry import Conv, rows, weight_of
from neuropil.plasticity.law import Dense
from neuropil.plasticity.tap import bare, tap


def in_one_process(model: nn.Module) -> nn.Module:
    """The user's own model inside `model`, unless other processes have one that would not hear of its changes."""
    split = any(isinstance(outer, nn.parallel.DistributedDataParallel) for outer in bare(model))
    cure = "call neuropil.distributed.share(model.module), and attach to that."
    require(not split, f"DistributedDataParallel shares gradients only, and rules have none; {cure}")
    return bare(model)[-1]


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Within, all of `model` is in evaluation mode; then each part is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def widest(model: nn.Module, names: object) -> int:
    """Units of the widest dense layer among `names`; names that are none will be refused elsewhere."""
    wanted = set(names) if isinstance(names, Mapping) else set()
    named = model.named_modules(remove_duplicate=False)
    return max((one.out_features for name, one in named if name in wanted and isinstance(one, nn.Linear)), default=0)


def check_images(who: str, images: object) -> None:
    """Refuse what a network does not take: a split, an array, a loader, or pixels as they are stored."""
    what = type(images).__name__ if not isinstance(images, Tensor) else "uint8" if images.dtype == torch.uint8 else ""
    cure = "for example split.pixels(), or the x of a batch"
    require(not what, f"{who} needs images as a tensor, as the network takes them, got {what}; {cure}.")
    nowhere = isinstance(images, Tensor) and images.is_meta
    require(not nowhere, f"{who} needs images with numbers in them, got some on the device meta, which has none.")


def check_settings(threshold: float | None, most: int, rng: Generator | None) -> None:
    """Refuse settings of `attach` that cannot be."""
    require(threshold is None or math.isfinite(threshold), f"attach needs a finite threshold or None, got {threshold}.")
    require(most >= 1, f"attach needs most >= 1 inputs for a step, got {most}.")
    made = rng is None or isinstance(rng, Generator)
    require(made, f"attach needs rng=torch.Generator().manual_seed(0) or another, got {rng!r}.")


def reached(model: nn.Module, rules: Mapping[str, Rule], images: Tensor) -> list[str]:
    """The names of `rules` in the order in which a pass reaches them; layers that cannot learn are refused."""
    by_name = isinstance(rules, Mapping) and bool(rules)
    require(by_name, f"attach needs a rule for each layer that learns, as {{name: rule}}, got {rules!r}.")
    lost = [name for name, one in model.named_parameters() if one.is_meta]
    cure = "call to_empty(device=...) and initialise or load them"
    require(not lost, f"attach needs weights with numbers, got {len(lost)} weights on the device meta; {cure}.")
    with tap(model, rules) as seen:
        model(images)
    for name, rule in rules.items():
        _ = seen[name]  # refuses a layer that was not reached
        _check(name, model.get_submodule(name), rule)
    return list(seen)


def _check(name: str, layer: nn.Module, rule: Rule) -> None:
    """Refuse what cannot learn."""
    kind, what = type(layer).__name__, type(rule).__name__
    require(isinstance(layer, (nn.Linear, *Conv)), f"layer {name!r} is a {kind}; attach takes Linear and Conv layers.")
    groups, (count, fan_in) = getattr(layer, "groups", 1), rows(layer, weight_of(layer)).shape
    silent = int((rows(layer, weight_of(layer)) == 0).all(1).sum())
    require(
        not silent, f"{silent} units of layer {name!r} have weights of 0, which have no direction; initialise them."
    )
    require(fan_in > 1, f"a unit of layer {name!r} has a single input, in which there is no direction to learn.")
    fits = isinstance(rule, Rule)
    require(fits, f"attach takes rules such as ExplainAway(), got {what}; rules with traces are called step by step.")
    rule.check_units(count // groups)
    cure = "use ExplainAway, HardWTA, KrotovHopfield or SoftHebb, or call the rule itself without attach."
    third = list(inspect.signature(rule.post).parameters)[1:]
    require(not third, f"attach gives a rule its drives only, but {what} needs {', '.join(third)} as well; {cure}")
    require(
        competes(rule, count // groups),
        f"units of layer {name!r} would not compete under {what}: each answers whatever the others do, and they end as "
        f"copies or noise; {cure}",
    )


def competes(rule: Rule, count: int) -> bool:
    """Whether what one of `count` units answers depends on the drives of the others."""
    drive = torch.arange(8.0 * count).sin().view(8, count)
    other = drive.clone()
    other[:, 0] += 3
    said, then = rule.post(drive), rule.post(other)
    if count == 1 or not isinstance(said, Dense) or not isinstance(then, Dense):
        return True
    return not torch.equal(said.gain[:, 1:], then.gain[:, 1:])
