"""A recurrent network of QIF neurons with any connectivity: input spikes in, spikes and end states out."""

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, require
from neuropil.spiking.current import check_dtype
from neuropil.spiking.kernels.bundles import Plan
from neuropil.spiking.kernels.dispatch import check_parameters, kernels
from neuropil.spiking.network import SpikingLayer, check_inputs
from neuropil.spiking.qif import LARGEST, QIF, QIFState, Simulation

__all__ = ["RecurrentQIF", "simulate_recurrent_qif"]


class RecurrentQIF(SpikingLayer):
    r"""QIF neurons with exponentially decaying current, driven by inputs and by each other, without delay.

    tau dV/dt = V (V - 1) + I, tau dI/dt = -2 I + sum_k w_k tau delta(t - t_k) over inputs and neurons; spike at
    V = inf, reset to -inf. Exact at every weight, state and input time.
    Klos & Memmesheimer 2025, Phys. Rev. Lett. 134, 027301.

    Args:
        inputs, neurons: sizes.
        neuron: the kind of neuron.
        t_end: end of the trial, in the unit of ``neuron.tau``.
        mask: (neurons, neurons), True where a synapse may be; from every neuron to every neuron if left out.
        dtype: float32 or float64.
        plan: how the kernels run.

    Attributes:
        weight: (inputs, neurons), 0 at first.
        recurrent: (neurons, neurons), rows are senders, 0 at first.
        potential, current: (neurons,), V and I at time 0, 0 at first.

    Raises:
        Refusal: sizes, end, mask or dtype that cannot be, or spike times that do not fit.

    >>> RecurrentQIF(2, 5, t_end=4.0)(torch.tensor([[0.1, 0.5]]), n_spikes=2).times.shape
    torch.Size([1, 5, 2])
    """

    neuron: QIF
    mask: Tensor

    def __init__(
        self, inputs: int, neurons: int, *, neuron: QIF | None = None, t_end: float, mask: Tensor | None = None,
        dtype: torch.dtype = torch.float32, plan: Plan | None = None,
    ):  # fmt: skip
        super().__init__(neuron or QIF(), t_end, plan)
        check_dtype(dtype)
        require(inputs >= 0 and neurons >= 1, f"RecurrentQIF needs inputs >= 0, neurons >= 1, got {inputs}, {neurons}.")
        wanted = (neurons, neurons)
        got = wanted if mask is None else tuple(mask.shape)
        require(got == wanted, f"the mask needs one row and one column per neuron, {wanted}, got {got}.")
        self.weight = nn.Parameter(torch.zeros(inputs, neurons, dtype=dtype))
        self.recurrent = nn.Parameter(torch.zeros(wanted, dtype=dtype))
        self.potential = nn.Parameter(torch.zeros(neurons, dtype=dtype))
        self.current = nn.Parameter(torch.zeros(neurons, dtype=dtype))
        self.register_buffer("mask", torch.ones(wanted, dtype=torch.bool) if mask is None else mask.bool())

    def simulate(self, times: Tensor) -> tuple[Tensor, QIFState]:
        """Ordinary spikes, (batch, neurons, spikes), and the state at the end.

        The drive of a pseudospike is the weighted sum of the phases of the other neurons at the end of the trial. These
        phases are those of neurons without current. A spike at the end changes currents at once, and phases that knew
        of it would make the others' pseudospikes jump.
        """
        recurrent = self.recurrent * self.mask
        weights = self.weight, recurrent, self.potential, self.current
        spikes, state = simulate_recurrent_qif(times, *weights, self.neuron, self.t_end, plan=self.plan)
        rate = self.neuron.rate(QIFState(state.angle, torch.zeros_like(state.current)))
        return spikes, self.neuron.with_drive(state, rate @ recurrent)


def simulate_recurrent_qif(
    times: Tensor, weight: Tensor, recurrent: Tensor, potential: Tensor, current: Tensor, neuron: QIF, t_end: float, *,
    plan: Plan | None = None,
) -> tuple[Tensor, QIFState]:  # fmt: skip
    """A recurrent network of QIF neurons as a function, see `RecurrentQIF`: ordinary spikes, and the state at the end.

    Args:
        times: (batch, inputs, spikes) or (batch, inputs).
        weight, recurrent: weights (inputs, neurons) and (neurons, neurons), rows are senders.
        potential, current: (neurons,) or (batch, neurons), at time 0; a potential may be -inf.
        neuron: the kind of neuron.
        t_end: end of the trial.
        plan: how the kernels run.
    """
    plan = plan or Plan()
    kernel, trains = kernels("recurrent", times.device, plan), check_inputs(times, weight, t_end)
    neurons = weight.shape[1]
    if recurrent.shape != (neurons, neurons) or recurrent.dtype != weight.dtype:
        needed = f"recurrent weights ({neurons}, {neurons}) in {weight.dtype}"
        got = f"{tuple(recurrent.shape)} in {recurrent.dtype}"
        raise Refusal(f"a recurrent network of {neurons} neurons needs {needed}, got {got}.")
    check_parameters(times, LARGEST, weight=weight, recurrent=recurrent, potential=potential, current=current)
    start, weights = (potential, current), (weight, recurrent)
    spikes, angle, end = Simulation.apply(trains, *start, (neuron.tau, t_end), kernel, plan, *weights)  # type: ignore[no-untyped-call]
    return spikes, QIFState(angle, end)
