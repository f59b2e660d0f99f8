"""How much memory does a schedule take, and where do tensors wait for their next stage?

The live set is what the graph itself implies: at a stage, everything made before that is read then
or later, for all rows at once, and what the stage makes on its way, for the rows under way.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnfix.breadth_first.schedule import Schedule, Stage
from bnfix.errors import ResourceError, gist
from bnfix.graph.graph import Value
from bnfix.numerics.tolerance import width

#: Bytes that one row of a value takes.
RowBytes = Callable[[Value], int]


@dataclass(frozen=True)
class Need:
    """Bytes that a calibration takes beyond the model.

    Attributes:
        waiting: At most, for all rows, between stages.
        working: At most, for the rows under way, within a stage.
    """

    waiting: int
    working: int

    @property
    def total(self) -> int:
        return self.waiting + self.working


def need(plan: Schedule, row_bytes: RowBytes, *, rows: int, at_once: Sequence[int]) -> Need:
    """What `plan` takes for `rows` rows, of which each stage has as many of `at_once` under way."""
    alive = {value for stage in plan.stages for value in stage.reads}
    alive -= {value for stage in plan.stages for value in stage.keeps}  # leaves the inputs
    waiting = under_way = 0
    for stage, together in zip(plan.stages, at_once, strict=True):
        under_way = max(under_way, working(stage, row_bytes) * together)
        before = sum(map(row_bytes, alive))
        alive = alive.difference(stage.frees).union(stage.keeps)
        waiting = max(waiting, before, sum(map(row_bytes, alive)))
    return Need(waiting * rows, under_way)


def working(stage: Stage, row_bytes: RowBytes) -> int:
    """Bytes that a stage makes of one row."""
    return sum(row_bytes(value) for call in stage.calls for value in call.outputs)


def widest(stage: Stage, row_bytes: RowBytes) -> int:
    """Bytes of one row of the largest tensor that a stage reads or makes; at least 1."""
    made = (value for call in stage.calls for value in call.outputs)
    return max([1, *map(row_bytes, stage.reads), *map(row_bytes, made)])


class Store:
    """Tensors that wait for their next stage, in memory up to a limit and beyond it elsewhere.

    Args:
        view: The values of a tensor as an array, without copying; None if it cannot be had.
        restore: A tensor of the values of an array.
        limit: Bytes that may wait as tensors; None for all of them.
        folder: Where files go; used with a limit only.
        host: Bytes that may wait as arrays before files are written: where tensors are on a device
            of their own, `limit` is about that one's memory, and the processor has another.
    """

    def __init__(
        self,
        view: Callable[[Any], np.ndarray[Any, Any] | None],
        restore: Callable[[np.ndarray[Any, Any]], Any],
        *,
        limit: int | None = None,
        folder: Path | None = None,
        host: int = 0,
    ) -> None:
        self.view, self.restore = view, restore
        self.limit, self.folder, self.host = limit, folder, host
        self.in_memory = 0
        self._held: dict[Hashable, Any] = {}
        self._bytes: dict[Hashable, int] = {}
        self._files = 0

    def put(self, key: Hashable, tensor: Any) -> None:
        if self.limit is not None and self.folder is not None:
            size = _bytes_of(tensor)
            if self.in_memory + size > self.limit:  # only now, as a look may be a copy
                array = self.view(tensor)
                if array is not None and array.dtype != object:
                    tensor, size = self._elsewhere(array), 0
            self.in_memory += size
            self._bytes[key] = size
        self._held[key] = tensor

    def get(self, key: Hashable) -> Any:
        held = self._held[key]
        return self.restore(held.read()) if isinstance(held, _Elsewhere) else held

    def drop(self, key: Hashable) -> None:
        held = self._held.pop(key)
        self.in_memory -= self._bytes.pop(key, 0)
        if isinstance(held, _OnDisk):
            held.file.unlink()
        elif isinstance(held, _OnHost):
            self.host += held.array.nbytes

    def __iter__(self) -> Iterator[Any]:
        """The keys of what waits."""
        return iter(self._held)

    def join(self, keys: Sequence[Hashable], key: Hashable) -> None:
        """Put the rows of what waits under `keys` under a `key` of their own."""
        together = self.joined([self.get(one) for one in keys])
        for one in keys:
            self.drop(one)
        self.put(key, together)

    def joined(self, tensors: Sequence[Any]) -> Any:
        """One tensor of the rows of all `tensors`."""
        if len(tensors) == 1 or tensors[0] is None:
            return tensors[0]
        return self.restore(np.concatenate([np.asarray(self.view(one)) for one in tensors]))

    def _elsewhere(self, array: np.ndarray[Any, Any]) -> _Elsewhere:
        if array.nbytes > self.host:
            return self._write(array)
        self.host -= array.nbytes
        return _OnHost(array)

    def _write(self, array: np.ndarray[Any, Any]) -> _OnDisk:
        self._files += 1
        file = Path(self.folder or ".") / str(self._files)
        try:
            np.ascontiguousarray(array).tofile(file)
        except OSError as error:  # NumPy tells of a full disk in words only
            raise ResourceError(
                f"what exceeds memory_limit cannot be written to {file.parent}: {gist(error)}. "
                'Free some space, set TMPDIR to another disk, or use method="streaming".'
            ) from error
        return _OnDisk(file, array.shape, array.dtype)


def _bytes_of(tensor: Any) -> int:
    if not hasattr(tensor, "__array__"):
        return 0
    name = getattr(tensor.dtype, "name", None) or str(tensor.dtype).rpartition(".")[2]
    return math.prod(int(size) for size in tensor.shape) * width(name)


@dataclass(frozen=True)
class _OnDisk:
    """An array in a file, which is mapped into memory for as long as it is read."""

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> np.ndarray[Any, Any]:
        return np.memmap(self.file, self.dtype, "r", shape=self.shape)


@dataclass(frozen=True)
class _OnHost:
    """An array in the processor's memory, off the device."""

    array: np.ndarray[Any, Any]

    def read(self) -> np.ndarray[Any, Any]:
        return self.array


_Elsewhere = _OnDisk | _OnHost


def check_room(wanted: Need, limit: int, folder: Path, *, host: int = 0) -> None:
    """Refuse what will not fit; `host` is as for `Store`.

    Raises:
        ResourceError: One piece of rows takes more than `limit`, or the rest more than the disk
            has free.
    """
    if wanted.working >= limit:
        raise ResourceError(
            f"memory_limit is {shown(limit)}, but one batch alone takes {shown(wanted.working)} on "
            "its way through the network. Pass smaller batches or a higher memory_limit.",
            advises=("memory_limit",),
        )
    spilled = wanted.total - limit - host
    free = shutil.disk_usage(folder).free
    if spilled > free:
        raise ResourceError(
            f"beyond memory_limit, {shown(spilled)} must go to {folder}, which has {shown(free)} "
            "free. Free some space, set TMPDIR to another disk, pass less data, or use "
            'method="streaming".',
            advises=("memory_limit", "method"),
        )


def shown(size: int) -> str:
    """Bytes for people: "1.5 GiB"."""
    amount, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.3g} {units[0]}"
