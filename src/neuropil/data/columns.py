"""How the columns of a table were brought to mean 0 and variance 1, so that new rows can be treated alike."""

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from neuropil.errors import Refusal, require


class Columns(NamedTuple):
    """Mean and standard deviation of every column of a table.

    Examples:
        >>> columns = Columns.of(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        >>> columns
        Columns(mean=(2.0, 5.0), spread=(1.0, 1.0))
        >>> columns.scaled(torch.tensor([[4.0, 6.0]]))
        tensor([[2., 1.]])
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]  # 1 for a column that is constant

    @classmethod
    def of(cls, rows: Tensor) -> Self:
        """Those of these rows (n, columns)."""
        mean, spread = rows.mean(0), rows.std(0, correction=0)
        return cls(tuple(mean.tolist()), tuple(spread.where(spread > 0, 1).tolist()))

    @classmethod
    def from_json(cls, said: Any) -> Self | None:
        """Those that a file says, as ``{"mean": [...], "spread": [...]}``; None for None.

        Raises:
            Refusal: something else.
        """
        if said is None:
            return None
        try:
            mean, spread = (tuple(float(value) for value in said[key]) for key in ("mean", "spread"))
        except (TypeError, KeyError, ValueError) as error:
            raise Refusal("the columns of a table need a mean and a spread each; the file is damaged.") from error
        fine = len(mean) == len(spread) > 0 and all(value > 0 for value in spread)
        require(fine, f"the columns of a table need as many spreads > 0 as means, got {len(spread)} and {len(mean)}.")
        return cls(mean, spread)

    def scaled(self, rows: Tensor) -> Tensor:
        """Rows (n, columns) of the table as a model takes them that learned from it.

        Raises:
            Refusal: another number of columns.
        """
        fits = rows.ndim == 2 and rows.shape[1] == len(self.mean)
        require(fits, f"the table has {len(self.mean)} columns, got rows of shape {tuple(rows.shape)}.")
        mean, spread = (torch.tensor(part, dtype=rows.dtype, device=rows.device) for part in self)
        return (rows - mean) / spread
