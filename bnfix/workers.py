"""Processes that each hold a part of the data, as the rest of bnfix sees them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Workers(Protocol):
    """All processes of a job, of which this is one.

    Attributes:
        rank: Of this process, from 0.
        size: How many there are.
    """

    rank: int
    size: int

    def own_part(self, ds: Any) -> Any:
        """What of `ds` is for this process, where that is not `ds` itself."""
        ...

    def all_reduce(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum of what each process passes, the same bits in all; every process has to call it.

        Args:
            values: Of one shape in all processes.

        Raises:
            WorkerError: Another process is gone, or did not call in time.
        """
        ...


class Alone:
    """A process that has no others."""

    rank, size = 0, 1

    def own_part(self, ds: Any) -> Any:
        return ds

    def all_reduce(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return values
