"""Layers of spiking neurons whose weights change while they are simulated."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from neuropil.errors import Diverged, needs_numbers, require
from neuropil.models.nn import plastic_kernels as kernels
from neuropil.plasticity import PairSTDP, RewardModulated, constrain_
from neuropil.plasticity.geometry import check_alike, check_input, weight_of
from neuropil.plasticity.kernels.events import are_spikes
from neuropil.plasticity.sharing import sharing
from neuropil.plasticity.stdp.pair import Traces
from neuropil.plasticity.stdp.rule import Clocked
from neuropil.spiking import CurrentLIF, DeltaLIF, Network
from neuropil.spiking.clock.contract import check_step
from neuropil.spiking.clock.together import constants

COMPILED: dict[type, Any] = {CurrentLIF: kernels.current, DeltaLIF: kernels.delta}


class PlasticState(NamedTuple):
    """State of a `PlasticLayer`; its weights are not part of it."""

    neurons: Any  # of its neurons
    traces: Any  # what the rule remembers
    before: Tensor | None = None  # spikes of the neurons in the step before, with lag=1


class PlasticLayer(nn.Module):
    r"""A layer and its neurons, which learn in every time step: :math:`w \leftarrow [w + \eta\,\Delta w]`, in bounds.

    It is a network for `simulate`, alone or in a `SpikingSequential`. A step makes the spikes of the neurons, then asks
    the rule with them and with the spikes that came. The change is the mean over samples. It does what a loop does that
    calls the layer, the neurons, the rule, `propose_`, ``torch.optim.SGD`` and `constrain_`. Weights change in place.

    On the CPU `simulate` compiles dense layers of `CurrentLIF` or `DeltaLIF` with a `PairSTDP` that does not depend on
    the weight. It then takes only spikes, and gives the same up to rounding. A simulation with ``record=``, and any
    other combination, is run step by step.

    It learns in training mode. After ``eval()`` its weights stay, and traces go on.

    Args:
        layer: dense or a convolution, with a bias or without; the bias does not learn.
        neuron: has ``init`` and ``step``, and spikes.
        rule: with traces of spikes, such as `PairSTDP`; one that needs no reward. Weights add to the drive, so under
            `InhibitorySTDP` the layer has to subtract.
        lr: rate of learning, what the change is multiplied by.
        low, high: bounds of each weight; None for none.
        lag: by how many steps later the rule meets the spikes of the neurons, 0 or 1. Input comes at the start of a
            step and neurons spike at its end, so 1 is what time says. With 0 an input and its effect in the same step
            are no pair.

    Raises:
        Refusal: something else; a rate that is not positive; low >= high; steps of the neuron and the rule that differ.

    Examples:
        >>> from neuropil.plasticity import PairSTDP
        >>> from neuropil.spiking import DeltaLIF, simulate
        >>> layer = nn.Linear(3, 2, bias=False)
        >>> _ = nn.init.constant_(layer.weight, 0.5)
        >>> network = PlasticLayer(layer, DeltaLIF(), PairSTDP(a_minus=0.5), lr=0.01, low=0.0, high=1.0)
        >>> spikes = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]]])
        >>> simulate(network, spikes).counts
        tensor([[1., 1.]])
        >>> layer.weight[0]
        tensor([0.5048, 0.5000, 0.5000], grad_fn=<SelectBackward0>)
    """

    def __init__(
        self, layer: nn.Module, neuron: Network, rule: Clocked, *, lr: float, low: float | None = None,
        high: float | None = None, lag: int = 0,
    ):  # fmt: skip
        super().__init__()
        needs_numbers(self, lr=lr, low=low, high=high, lag=lag)
        require(lag in (0, 1), f"PlasticLayer needs lag=0 or lag=1, in steps, got {lag}.")
        fits = isinstance(layer, nn.Module) and hasattr(neuron, "init") and hasattr(neuron, "step")
        fits = fits and isinstance(rule, Clocked) and "post" in rule.spiking
        got = ", ".join(type(one).__name__ for one in (layer, neuron, rule))
        require(fits, f"PlasticLayer needs a layer, neurons with init and step, and a rule of spikes, got {got}.")
        check_step("PlasticLayer", neuron)
        rewarded, cure = isinstance(rule, RewardModulated), "call rule.step in a loop of your own"
        require(not rewarded, f"PlasticLayer has no reward to give to RewardModulated; {cure}.")
        require(0 < lr < math.inf, f"PlasticLayer needs a finite lr > 0, got {lr}.")
        bounded = low is None or high is None or low < high
        require(bounded, f"PlasticLayer needs low < high, got low={low} and high={high}.")
        own = getattr(neuron, "dt", rule.dt)
        require(
            own == rule.dt, f"PlasticLayer needs one step for all, got dt={own:g} of neurons, {rule.dt:g} of a rule."
        )
        self.layer, self.neuron, self.rule, self.lr, self.low, self.high = layer, neuron, rule, lr, low, high
        self.lag = lag

    @torch.no_grad()
    def init(self, like: Tensor) -> PlasticState:
        """Neurons at rest and no trace of a spike, for spikes shaped like this, (batch, *in)."""
        self._check(like)
        none, weight = self.silence(like), self.layer.get_parameter("weight")
        require(bool(weight.isfinite().all()), "PlasticLayer needs finite weights, got NaN or infinity.")
        traces = self.rule.init(self.layer, like, none)
        return PlasticState(self.neuron.init(none), traces, none if self.lag else None)

    def _check(self, spikes: Tensor) -> None:
        """Refuse spikes that the layer cannot take, and weights without numbers."""
        weight, kind = weight_of(self.layer), type(self.layer).__name__
        cure = "call to_empty(device=...) and initialise or load its weights"
        require(not weight.is_meta, f"PlasticLayer needs weights, got a {kind} on the meta device; {cure}.")
        check_input(self.layer, spikes)
        check_alike(self.layer, weight, spikes)

    @torch.no_grad()
    def check_weights(self, name: str = "") -> None:
        """Refuse weights that have run away; `simulate` asks for it at its end, with the name in the network.

        Raises:
            Diverged: a weight is NaN or infinite.
        """
        if not self.layer.get_parameter("weight").isfinite().all():
            who = f"PlasticLayer {name!r}" if name else "PlasticLayer"
            got = f"{who} has learned weights that are NaN or infinite"
            raise Diverged(f"{got}; start again with a lower lr than {self.lr:g}, or give it low and high.")

    @torch.no_grad()
    def silence(self, like: Tensor) -> Tensor:
        """No spike of any of its neurons, for spikes shaped like this."""
        return torch.zeros_like(self.layer(like))

    @torch.no_grad()
    def step(self, spikes: Tensor, state: PlasticState) -> tuple[Tensor, PlasticState]:
        """One step, after which the weight has changed: spikes of the neurons, (batch, *out), and the state after it.

        Args:
            spikes: that come in this step, (batch, *in), 0 or 1.
            state: of these neurons.
        """
        check_input(self.layer, spikes)
        out, neurons = self.neuron.step(self.layer(spikes), state.neurons)
        post = out if state.before is None else state.before
        change, traces = self.rule.step(self.layer, spikes, post, state.traces)
        if self.training:
            self.layer.get_parameter("weight").add_(change, alpha=self.lr)
            constrain_(self.layer, low=self.low, high=self.high)
        return out, PlasticState(neurons, traces, out if self.lag else None)

    def several_steps(self, spikes: Tensor, state: PlasticState) -> tuple[Tensor, PlasticState]:
        """Several steps, (time, batch, *in): all that come out, and the state after the last."""
        if not self._compilable(spikes, state):
            outs = []
            for now in spikes:
                out, state = self.step(now, state)
                outs.append(out)
            return torch.stack(outs), state
        return self._fused(spikes, state)

    def _compilable(self, spikes: Tensor, state: PlasticState) -> bool:
        """Whether the compiled loop knows all of this; what does not fit is left to `step`, which says so."""
        layer, rule, weight = self.layer, self.rule, self.layer.get_parameter("weight")
        known = type(layer) is nn.Linear and type(self.neuron) in COMPILED and type(rule) is PairSTDP
        if not known or getattr(rule, "dependence", None) is not None or sharing(weight) is not None:
            return False
        if layer._forward_hooks or layer._forward_pre_hooks or spikes.dim() != 3 or not spikes.shape[1]:
            return False
        before = [] if state.before is None else [state.before]
        floats = [weight, spikes, *state.traces, *state.neurons[:-1], *before]
        alike = all(one.dtype == weight.dtype and one.device.type == "cpu" for one in floats)
        units = (spikes.shape[1], len(weight))
        shapes = [tuple(one.shape) for one in (*state.traces, *state.neurons, *before)]
        fits = spikes.shape[2] == weight.shape[1] and len(before) == self.lag
        fits = fits and shapes == [tuple(spikes.shape[1:])] + [units] * (len(shapes) - 1)
        return alike and fits and weight.dtype in (torch.float32, torch.float64) and are_spikes(spikes)

    @torch.no_grad()
    def _fused(self, spikes: Tensor, state: PlasticState) -> tuple[Tensor, PlasticState]:
        """Several steps, compiled."""
        weight, rule, batch = self.layer.get_parameter("weight"), self.rule, spikes.shape[1]
        assert isinstance(rule, PairSTDP)
        turned, bias = _copy(weight.T), getattr(self.layer, "bias", None)
        kind = turned.dtype.type
        bias = np.zeros(len(weight), kind) if bias is None else bias.detach().numpy()
        *numbers, resting = state.neurons
        neurons, left = np.stack([_copy(one) for one in numbers]), _copy(resting)
        x, y = (_copy(one) for one in state.traces)
        out = np.empty((*spikes.shape[:2], len(weight)), kind)
        decay = math.exp(-rule.dt / rule.tau_plus), math.exp(-rule.dt / rule.tau_minus)
        gains = self.lr * rule.a_plus * decay[0] / batch, self.lr * rule.a_minus * decay[1] / batch
        bounds = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        how = rule.pairing == "nearest", self.training, self.lag == 1
        law = kernels.Law._make([*map(kind, (*decay, *gains, *bounds)), *how])
        before = np.zeros_like(y) if state.before is None else _copy(state.before)
        given = spikes.contiguous().numpy(), out, before, turned, bias, neurons, left, x, y
        COMPILED[type(self.neuron)](*given, constants(self.neuron).typed(kind), law)
        if self.training:
            weight.copy_(torch.from_numpy(turned).T)
        after = type(state.neurons)(*(torch.from_numpy(one) for one in (*neurons, left)))
        outs, traces = torch.from_numpy(out), Traces(torch.from_numpy(x), torch.from_numpy(y))
        return outs, PlasticState(after, traces, outs[-1].clone() if self.lag else None)

    def extra_repr(self) -> str:
        """Neurons and rule, which are no modules."""
        rates = f"lr={self.lr:g}, low={self.low}, high={self.high}, lag={self.lag}"
        return f"neuron={self.neuron}, rule={self.rule}, {rates}"


def _copy(x: Tensor) -> Any:
    """As an array of its own, in order."""
    return x.detach().contiguous().numpy().copy()
