"""Rules on layers of a plain network: a state for each layer gives a rule the input, start and bias that it needs."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.amp.grad_scaler import GradScaler

from neuropil.errors import Diverged, require
from neuropil.plasticity.attachable import check_images, check_settings, in_evaluation, in_one_process, reached, widest
from neuropil.plasticity.engine import Rule
from neuropil.plasticity.geometry import rows, weight_of, write_
from neuropil.plasticity.precision import full_precision
from neuropil.plasticity.processes import Processes, chosen, place
from neuropil.plasticity.propose import propose_, surrogate_loss
from neuropil.plasticity.seen import LayerState, entry, observe, prepared, take, taken
from neuropil.plasticity.sharing import places, sharing, sharing_all
from neuropil.plasticity.tap import tap
from neuropil.plasticity.turn import directions_of, restart_, settle_layer_, turn

FEWEST = 1000  # images of which a network starts, or all if there are fewer
IDLE = 8  # steps in a row after which a weight that none of them wrote is named


class Learner:
    """Rules attached to layers of a network, as `attach` makes it.

    Attributes:
        model: the network.
        rules: a rule for each layer that learns, by name, in the order in which a pass reaches them.
        states: what each of these layers remembers.
        untrained: weight and bias of each before its rule was attached.
        begun: the same when it began to learn, with its start and bias.
        rng, threshold, most: as given to `attach`.
        processes: those that share the network; None for this one alone.
    """

    processes: Processes | None = None

    def __init__(self, model: nn.Module, rules: Mapping[str, Rule], threshold: float | None, most: int, rng: Generator):
        self.model, self.rules, self.rng = model, dict(rules), rng
        self.states: dict[str, LayerState] = {}
        self.untrained: dict[str, dict[str, Tensor]] = {}
        self.begun: dict[str, dict[str, Tensor]] = {}
        self.threshold, self.most, self._settled = threshold, most, True
        self._versions: dict[str, int] = {}  # of the weights when their changes were made
        self._idle: dict[str, int] = {}  # steps in a row that have not written them

    def __repr__(self) -> str:
        return f"Learner({', '.join(f'{name}: {rule}' for name, rule in self.rules.items())})"

    @torch.no_grad()
    def propose_(self, images: Tensor, scaler: GradScaler | None = None) -> None:
        """Let a batch through the network and hand every attached layer's change to the optimiser.

        Layers in training mode (batch normalisation, dropout) do what they do in training. A `scaler` of
        gradients is given where one takes the step of the optimiser.

        Raises:
            Refusal: NaN or infinite activity.
        """
        fits = scaler is None or hasattr(scaler, "scale")
        require(fits, "propose_ takes images and, where there is one, a GradScaler; local rules need no labels.")
        for layer, change in self._changes("propose_", images):
            propose_(layer, change, scaler=scaler)

    def surrogate_loss(self, images: Tensor) -> Tensor:
        """The same as a loss, for loops that clear gradients between the pass and the step; as `surrogate_loss`.

        Its value is 0 but for rounding, since rows turn and do not grow. Call it before the pass of a true loss: what
        `settle_` would have done after the latest step is made up for here.

        Raises:
            Refusal: NaN or infinite activity. Gradients are switched off, as in validation.
        """
        cure = "call it in training only, since it learns means and biases from what it is given"
        require(torch.is_grad_enabled(), f"surrogate_loss was called where gradients are switched off; {cure}.")
        with torch.no_grad():
            changes = list(self._changes("surrogate_loss", images))
        return torch.stack([surrogate_loss(layer, change) for layer, change in changes]).sum()

    def _changes(self, who: str, images: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        """Each attached layer and its change by a batch, one at a time."""
        check_images(who, images)
        self.settle_()
        with tap(self.model, self.rules) as seen:
            self.model(images)
        layers = [self.model.get_submodule(name) for name in seen]
        same = all(sharing(layer.get_parameter("weight")) == self.processes for layer in layers)
        require(same, f"{who} needs a network that is shared before attach, or not at all; attach anew after share.")
        inputs = [entry(layer, activity.pre) for layer, activity in zip(layers, seen.values())]
        for name, layer, x, where in zip(seen, layers, inputs, places(self.processes, layers, inputs)):
            yield layer, self._change(name, layer, x, where)
            self._versions[name] = weight_of(layer)._version
        self._settled = False

    @full_precision
    def _change(self, name: str, layer: nn.Module, x: Tensor, where: tuple[int, int]) -> Tensor:
        """What the layer `name` learns from its input; arguments as of `take`."""
        samples, where = take(layer, x, self.most, self.rng, self.processes, where)
        if not where[1]:
            return torch.zeros_like(weight_of(layer))
        self._follow(name, layer)
        state, fresh = restart_(layer, samples, self.states[name], self.rng, where, self.processes)
        state = observe(layer, samples, state, fresh, self.processes)
        change, won = turn(self.rules[name], layer, samples, state, self.processes)
        self.states[name] = state._replace(idle=torch.where(won > 0, 0, state.idle + where[1]))
        return change

    @torch.no_grad()
    def settle_(self) -> None:
        """After ``optimizer.step()``: rows lose their mean and regain their norm, biases follow the drives.

        Adam, momentum and weight decay move rows off the sphere on which they turn. A step that was not settled is
        settled by the next `propose_`.

        Raises:
            Diverged: the step made weights NaN or infinite.
        """
        for name in self.states if not self._settled else ():
            layer = self.model.get_submodule(name)
            state = self._follow(name, layer)
            self._name_idle(name, weight_of(layer)._version)
            if not weight_of(layer).isfinite().all():
                raise Diverged(f"a step made weights of layer {name!r} NaN or infinite; attach anew, at a lower rate.")
            settle_layer_(layer, state, self.threshold)
        self._settled = True

    def _follow(self, name: str, layer: nn.Module) -> LayerState:
        """The state of a layer, where the layer is: a network may have been moved or converted since."""
        weight, state = weight_of(layer), self.states[name]
        if (state.norms.device, state.norms.dtype) != (weight.device, weight.dtype):
            state = self.states[name] = LayerState(*(part.to(weight) for part in state))
        return state

    def _name_idle(self, name: str, version: int) -> None:
        """Say once of a weight that no step writes it; a few may be left out, as by a GradScaler."""
        self._idle[name] = self._idle.get(name, 0) + 1 if version == self._versions.get(name) else 0
        if self._idle[name] == IDLE:
            got = f"the weight of layer {name!r} was written by none of {IDLE} steps"
            warnings.warn(f"{got}; is it among the parameters of the optimiser?", stacklevel=3)

    @torch.no_grad()
    def wins(self, images: Tensor) -> dict[str, Tensor]:
        """(units,) for each layer: on how many samples a unit has more than its part, a gain above 1 / units.

        The network is in evaluation mode meanwhile, so nothing of it changes.
        """
        with in_evaluation(self.model), tap(self.model, self.rules) as seen:
            self.model(images)
        counts = {}
        for name in self.states:
            layer = self.model.get_submodule(name)
            state = self._follow(name, layer)
            most = max(self.most, 50 * len(state.norms))
            samples = taken(layer, seen[name].pre, most, Generator().manual_seed(0), self.processes)
            counts[name] = turn(self.rules[name], layer, samples, state, self.processes)[1]
        return counts

    def on(self, model: nn.Module) -> "Learner":
        """The same learner, with a state of its own, on a copy of its network."""
        rng = Generator(self.rng.device)
        other = Learner(model, self.rules, self.threshold, self.most, rng)
        other.states, other.processes = dict(self.states), sharing_all(model)
        other.load_state_dict(self.state_dict())
        return other

    def state_dict(self) -> dict[str, Any]:
        """Everything but the network: with its state and that of the optimiser a run goes on bit for bit."""
        layers = {name: state._asdict() for name, state in self.states.items()}
        said = {"rules": {name: repr(rule) for name, rule in self.rules.items()}, "threshold": self.threshold}
        before = {"untrained": self.untrained, "begun": self.begun}
        return {"layers": layers, **said, **before, "rng": self.rng.get_state(), "settled": self._settled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`; load the state of the network after `attach`, which starts its rows afresh."""
        sizes: Any = lambda states: {name: (*one["mean"].shape, *one["norms"].shape) for name, one in states.items()}
        given, own = sizes(state.get("layers", {})), sizes({name: one._asdict() for name, one in self.states.items()})
        require(given == own, f"the state of a learner on layers {given} was given to one on {own}.")
        own = {"rules": {name: repr(rule) for name, rule in self.rules.items()}, "threshold": self.threshold}
        for name, mine in own.items():
            other = state.get(name, mine)
            require(other == mine, f"the state of a learner with {name} {other} was given to one with {mine}.")
        self.states = {name: LayerState(**state["layers"][name]) for name in self.rules}
        self.untrained, self.begun = dict(state["untrained"]), dict(state.get("begun", self.begun))
        self._settled = state["settled"]
        self.rng.set_state(state["rng"])

    def __getstate__(self) -> dict[str, Any]:
        """For a copy, or another process: torch sends no generator."""
        return vars(self) | {"rng": (str(self.rng.device), self.rng.get_state())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        device, numbers = state["rng"]
        rng = Generator(device)
        rng.set_state(numbers)
        vars(self).update(state | {"rng": rng})


def attach(
    model: nn.Module, rules: Mapping[str, Rule], images: Tensor, *,
    threshold: float | None = None, most: int = 2048, rng: Generator | None = None,
) -> Learner:  # fmt: skip
    r"""Let layers of a network learn by local rules, whatever their inputs, sizes and optimiser.

    A rule sees inputs without their running mean and each sample's own, of length 1, and units that compete by the
    cosine :math:`u_j = \langle W_j, x \rangle / |W_j|`. Its change turns a row,
    :math:`\Delta W_j = |W_j| P_j (\sum_b g_{bj} x_b - \sum_i M_{ji} W_i / |W_i|) / \sum_b |g_{bj}|`, with P_j the
    projection off W_j: decay by a unit's own weight drops out. The rate 0.2 of SGD or 0.001 of Adam fits every rule.

    No unit stays dead. One with no g > 0 in a batch turns towards the input nearest to it at 0.03 of the rate (leaky
    learning, Rumelhart & Zipser 1985, Cognitive Science 9). One that has won none of ten samples for each unit of the
    layer starts anew at an input of the batch.

    Args:
        model: any module tree; dense layers and convolutions can learn. A compiled or parallel one serves as the
            model that it was made from.
        rules: a rule for each layer that learns, by its name in ``model.named_modules()``. It learns even where its
            weight requires no gradient.
        images: a batch as the network takes it. Rows start at inputs from 1,000 of it, or from two for each unit of a
            wider dense layer. With fewer inputs than units the others keep their random start, and a warning says so.
        threshold: of the bias; None for 0.5 in dense layers and 0 in convolutions.
        most: inputs or patches that a layer learns from in a step, at random if there are more.
        rng: of the start and of these; None for a generator with seed 0.

    Raises:
        Refusal: a rule or layer that cannot learn so. A name that the network does not have, or that no pass reaches.
            A model that learns in several processes.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import ExplainAway, attach
        >>> model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU())
        >>> learner = attach(model, {"0": ExplainAway()}, torch.rand(100, 20))
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        >>> for images in torch.rand(5, 100, 20):
        ...     learner.propose_(images)
        ...     optimizer.step()
        ...     learner.settle_()
    """
    check_images("attach", images)
    check_settings(threshold, most, rng)
    model = in_one_process(model)
    learner = Learner(model, {}, threshold, most, rng or Generator().manual_seed(0))
    learner.processes = sharing_all(model)
    before, total = place(images, learner.processes)
    order = torch.randperm(total, generator=learner.rng)[: max(FEWEST, 2 * widest(model, rules))]
    images = images[chosen(order, before, len(images)).to(images.device)]
    with torch.no_grad():
        names = reached(model, rules, images)
        for name in names:
            learner.untrained[name] = {
                key: x.detach().clone() for key, x in model.get_submodule(name).named_parameters()
            }
        for name in names:  # a layer starts on what the layers below make of the images from now on
            with tap(model, [name], pre_only=True) as seen:
                model(images)
            learner.rules[name] = rules[name]
            layer = model.get_submodule(name)
            learner.states[name], begun = _start_(layer, seen[name].pre, most, learner.rng, learner.processes)
            settle_layer_(layer, learner.states[name], threshold)
            learner.begun[name] = {key: x.detach().clone() for key, x in layer.named_parameters()}
            if begun < len(learner.states[name].norms):
                few = f"{begun} of {len(learner.states[name].norms)} units of layer {name!r} start at inputs"
                warnings.warn(f"{few}, the others at random: attach was given too few images.", stacklevel=2)
    return learner


@full_precision
def _start_(
    layer: nn.Module, pre: Tensor, most: int, rng: Generator, processes: Processes | None
) -> tuple[LayerState, int]:
    """Let the rows start at samples of `pre`, as many as there are; the state after that batch, and how many do."""
    weight = rows(layer, weight_of(layer)).clone()
    samples = taken(layer, pre, max(most, 4 * len(weight)), rng, processes)
    samples = samples if processes is None else processes.gather(samples)  # they are few, and all start alike
    require(len(samples) > 0, "attach needs images to start from, got none that a layer could learn from.")
    zero = weight.new_zeros(())
    first = LayerState(weight.norm(dim=1), weight.new_zeros(len(weight)), *[zero] * 5)
    state, begun = observe(layer, samples, first), 0
    for start, x in zip(weight.chunk(samples.shape[1]), prepared(samples, state).unbind(1)):
        x = x[x.norm(dim=1) > 0.5]  # not the flat ones
        some = min(len(x), len(start))
        start[:some] = x[torch.randperm(len(x), generator=rng)[:some].to(x.device)]
        begun += some
    write_(layer, directions_of(weight) * state.norms[:, None])
    return observe(layer, samples, first), begun
