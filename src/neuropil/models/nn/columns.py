"""Layers of neurons in columns, each neuron associated with a class: what they send, and how they vote."""

import torch
from torch import Tensor, nn

from neuropil.errors import needs_numbers, require
from neuropil.models.description import savable
from neuropil.models.nn.layers import unit
from neuropil.plasticity import associations


class TopKSigmoid(nn.Module):
    r"""What neurons send to the next layer: their answer :math:`s = 1 / (1 + e^{-\beta u})` to a drive u.

    Args:
        slope: beta.
        n_send: how many neurons of a column send; the others are silent. Together they send a vector of length 1.
            None for all, as they are.
        columns: of equal size.
    """

    def __init__(self, slope: float, n_send: int | None = None, columns: int = 1):
        super().__init__()
        needs_numbers(self, slope=slope, n_send=n_send, columns=columns)
        require(n_send is None or n_send >= 1, f"some neuron of a column has to send, got n_send={n_send}.")
        self.slope, self.n_send, self.columns = slope, n_send, columns

    def forward(self, drive: Tensor) -> Tensor:
        """(batch, neurons) drives to the same shape."""
        answer = torch.sigmoid(self.slope * drive)
        if self.n_send is None:
            return answer
        rivals = answer.unflatten(1, (self.columns, -1))
        top = rivals.topk(min(self.n_send, rivals.shape[2]), 2)
        return unit(torch.zeros_like(rivals).scatter(2, top.indices, top.values).flatten(1))

    def extra_repr(self) -> str:
        """The settings."""
        return f"slope={self.slope}, n_send={self.n_send}, columns={self.columns}"


class PopulationVote(nn.Module):
    """How strongly the drives of the last layer speak for each class, averaged over its columns.

    A column speaks for a class by the mean of its k largest drives of neurons associated with it, times beta.
    Without k all of them count, by their answers.

    Args:
        neurons: of the last layer.
        classes: how many.
        k: neurons of a column that count, those with the largest drives; None for all.
        slope: beta.
        columns: of equal size.
    """

    members: Tensor

    def __init__(self, neurons: int, classes: int, *, k: int | None, slope: float, columns: int = 1):
        super().__init__()
        self.neurons, self.classes, self.k, self.slope, self.columns = neurons, classes, k, slope, columns
        places, labels = torch.arange(neurons).view(columns, -1), associations(neurons, classes)
        groups = [column[labels[column] == label] for label in range(classes) for column in places]
        lists = nn.utils.rnn.pad_sequence(groups, batch_first=True, padding_value=neurons)  # no such neuron: silent
        self.register_buffer("members", lists.view(classes, columns, -1), persistent=False)

    def forward(self, drive: Tensor) -> Tensor:
        """(batch, neurons) to (batch, classes)."""
        k, slope = self.k, self.slope
        drives = nn.functional.pad(drive, (0, 1), value=-torch.inf)[:, self.members]
        if k is not None:
            return slope * drives.topk(k, 3).values.mean((2, 3))
        return torch.sigmoid(slope * drives).sum((2, 3)) / (self.members < drive.shape[1]).sum((1, 2))


savable(TopKSigmoid, PopulationVote)
