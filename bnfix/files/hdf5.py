"""How is an HDF5 file read whose content is not to be trusted?

HDF5 can point outside of itself (external and soft links, external storage, virtual datasets),
promise sizes that it does not hold, and contain itself. Keras writes none of that, so nothing of it
is followed: a value is looked at only once what its reading costs is known and bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5l  # pyright: ignore[reportAttributeAccessIssue]

from bnfix.errors import FileError
from bnfix.files.backslashes import Backslashes
from bnfix.files.damage import understood
from bnfix.files.heaps import Heaps, Read, heaps_of, most_of_texts

_T = TypeVar("_T")

#: What h5py raises when it meets bytes that make no sense.
_UNREADABLE = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError,
    MemoryError, SystemError, EOFError, NotImplementedError,
)  # fmt: skip

_MAX_ATTRIBUTE = 64 << 20
_MAX_TEXTS = 384 << 20
MAX_ATTRIBUTES = 10_000
#: Characters of a path in a message.
_SHOWN = 120
_MAX_DEPTH = 300
_MAX_CHUNK = 64 << 20
_MAX_VALUES = 32 << 20
MAX_OBJECTS = 300_000
#: Deflate packs zeros about a thousand times smaller, and a fresh optimizer is all zeros.
_MAX_EXPANSION = 1100
#: Filters of the library itself; others are loaded from plugins of the machine.
_OWN_FILTERS = {1, 2, 3, 4, 5, 6, 32000}


class Hdf5:
    """An open HDF5 file, read with distrust.

    Attributes:
        name: What messages call the file.
        size: Bytes that the file has.
    """

    def __init__(self, source: Any, name: str, size: int, mode: str = "r") -> None:
        """Open `source`, a path or a binary file object of `size` bytes."""
        self.name, self.size = name, size
        self._source = source
        self._heaps: Heaps | None = None
        with self.understood("as a whole"):
            self.file = h5py.File(source, mode)
        self._found: dict[str, Any] = {"": self.file}
        self._backslashes = Backslashes({}, {})
        self._backslashes = Backslashes.among(self.children())

    def __enter__(self) -> Hdf5:
        return self

    def __exit__(self, *exception: object) -> None:
        with self.understood("when it was closed"):
            self.file.close()

    # --- groups ------------------------------------------------------------------------------

    @property
    def has_backslashes(self) -> bool:
        """Whether Windows has put backslashes into names, which are read as slashes here."""
        return bool(self._backslashes)

    def is_group(self, path: str) -> bool:
        implied = path.strip("/") in self._backslashes.members
        return implied or isinstance(self._find(path), h5py.Group)

    def children(self, path: str = "/") -> list[str]:
        """Names in the group at `path`; an empty list where there is none."""
        group = self._find(path)
        implied = self._backslashes.members.get(path.strip("/"), ())
        if not isinstance(group, h5py.Group):
            return list(implied)
        with self.understood(path):
            if len(group) > MAX_OBJECTS:
                self.refuse(path, f"a group of {len(group):,} members")
            held = [str(name) for name in group if str(name) not in self._names]
        return list(dict.fromkeys([*held, *implied]))

    @property
    def _names(self) -> frozenset[str]:
        """Those of groups that are found under another."""
        return frozenset(self._backslashes.named.values())

    def _find(self, path: str) -> Any:
        """The object at `path`, every link on the way being of the plain kind; None if absent."""
        path = path.strip("/")
        if path.count("/") > _MAX_DEPTH:
            self.refuse(path[:80], f"a path of more than {_MAX_DEPTH} names")
        if path not in self._found:
            parent, _, name = path.rpartition("/")
            known = self._backslashes.named.get(path)
            group, name = (self.file, known) if known else (self._find(parent), name)
            with self.understood(path):
                if not isinstance(group, h5py.Group) or name not in group:
                    return None
                self.check_link(group, name, path)
                self._found[path] = group[name]
        return self._found[path]

    def check_link(self, group: Any, name: str, path: str) -> None:
        kind = group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type
        if kind != h5l.TYPE_HARD:
            told = "a soft" if kind == h5l.TYPE_SOFT else "an external"
            self.refuse(path, f"{told} link, which may lead anywhere")

    # --- attributes --------------------------------------------------------------------------

    def attribute(self, path: str, name: str) -> Any:
        """The attribute `name` of the object at `path`, bytes as text; None if absent."""
        where = f"{path}@{name}"
        holder = self._find(path)
        with self.understood(where):
            if holder is None or name not in holder.attrs:
                return None
            self.check_attribute(holder, name, where)
            value = holder.attrs[name]
        return self._text(value, where)

    def names(self, path: str, attribute: str) -> list[str] | None:
        """A list of names, which Keras cuts into `attribute0`, `attribute1` ... where long."""
        whole = self.attribute(path, attribute)
        if whole is not None:
            return self._strings(whole, f"{path}@{attribute}")
        found: list[str] = []
        for number in range(MAX_ATTRIBUTES):
            piece = self.attribute(path, f"{attribute}{number}")
            if piece is None:
                return found if number else None
            found += self._strings(piece, f"{path}@{attribute}{number}")
        return self.refuse(path, f"more than {MAX_ATTRIBUTES:,} attributes")

    def check_attribute(self, holder: Any, name: str, where: str) -> None:
        found = holder.attrs.get_id(name)
        count = int(np.prod(found.shape, dtype=object)) if found.shape else 1
        if count * found.dtype.itemsize > _MAX_ATTRIBUTE:
            self.refuse(where, f"an attribute of {count * found.dtype.itemsize:,} bytes")
        if h5py.check_dtype(vlen=found.dtype) is None:
            return
        heaps = self._checked_heaps(where)
        # All texts of a list may be one and the same, stored once.
        if count > 1 and count * heaps.largest > _MAX_TEXTS:
            most = self._of_bytes(lambda read: most_of_texts(read, self.size, count, _MAX_TEXTS))
            if most is None or most > _MAX_TEXTS:
                self.refuse(where, f"{count:,} texts, which may take {_MAX_TEXTS:,} bytes")

    def _of_bytes(self, look: Callable[[Read], _T]) -> _T:
        """What `look` finds in the file as it lies on disk."""
        if isinstance(self._source, Path):
            with self._source.open("rb") as file:
                return look(_reader(file))
        return look(_reader(self._source))

    def _checked_heaps(self, where: str) -> Heaps:
        """What is known of the heaps of texts in the file, once none is broken."""
        if self._heaps is None:
            self._heaps = self._of_bytes(lambda read: heaps_of(read, self.size))
        if self._heaps.broken is not None:
            self.refuse(where, f"text in a heap whose parts overlap (byte {self._heaps.broken:,})")
        return self._heaps

    def _text(self, value: Any, where: str) -> Any:
        if isinstance(value, bytes):
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError as error:
                self.refuse(where, f"text that is not UTF-8 ({error.reason})")
        return value

    def _strings(self, values: Any, where: str) -> list[str]:
        if not isinstance(values, np.ndarray) or values.ndim != 1:
            self.refuse(where, "something else than a list of names")
        found = [self._text(value, where) for value in values.tolist()]
        if not all(isinstance(value, str) for value in found):
            self.refuse(where, "something else than a list of names")
        return found

    # --- datasets ----------------------------------------------------------------------------

    def shape(self, path: str) -> tuple[int, ...] | None:
        """Shape of the dataset at `path`; None if there is none."""
        found = self._find(path)
        return tuple(found.shape or ()) if isinstance(found, h5py.Dataset) else None

    def values(self, path: str, *, limit: int = _MAX_VALUES) -> npt.NDArray[Any]:
        """The numbers of the dataset at `path`, which takes at most `limit` bytes."""
        found = self._find(path)
        if not isinstance(found, h5py.Dataset):
            self.refuse(path, "no numbers where they should be")
        with self.understood(path):
            if self.cost(found, path) > limit:
                self.refuse(path, f"{tuple(found.shape)} values where one per channel is expected")
            values = np.asarray(found[()])
        if values.dtype == np.uint16 and self.attribute(path, "dtype") == "bfloat16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        if values.dtype.kind not in "fiu":
            self.refuse(path, f"{values.dtype} where numbers are expected")
        return values

    def write(self, path: str, values: npt.NDArray[Any]) -> None:
        """Put `values` into the dataset at `path`, which keeps its type and place."""
        with self.understood(path):
            self._find(path)[...] = values

    def write_attribute(self, path: str, name: str, text: str) -> None:
        """Replace the text attribute `name`; its type stays."""
        holder = self._find(path)
        with self.understood(f"{path}@{name}"):
            kind = holder.attrs.get_id(name).dtype
            content = text.encode("utf-8")
            fixed = h5py.check_string_dtype(kind)
            if fixed is not None and fixed.length is not None:
                kind = h5py.string_dtype(fixed.encoding, len(content))
            holder.attrs.create(name, content, dtype=kind)

    def cost(self, dataset: Any, path: str) -> int:
        """Bytes that reading the whole `dataset` takes; refused where that is a trap."""
        if dataset.external:
            self.refuse(path, "values that lie in another file")
        if dataset.is_virtual:
            self.refuse(path, "values that are gathered from elsewhere")
        shape = dataset.shape or ()
        cost = int(np.prod(shape, dtype=object)) * dataset.dtype.itemsize
        stored = int(dataset.id.get_storage_size())
        self._check_filters(dataset, path)
        if cost > max(stored, 1) * (_MAX_EXPANSION if dataset.chunks else 1) + (1 << 16):
            self.refuse(path, f"a shape {tuple(shape)} of which only {stored:,} bytes are stored")
        return cost

    def _check_filters(self, dataset: Any, path: str) -> None:
        plist = dataset.id.get_create_plist()
        used = {plist.get_filter(number)[0] for number in range(plist.get_nfilters())}
        if foreign := used - _OWN_FILTERS:
            self.refuse(path, f"values packed by a plugin (filter {min(foreign)})")
        if dataset.chunks:
            chunk = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize
            if chunk > _MAX_CHUNK and used:
                self.refuse(path, f"packed pieces of {chunk:,} bytes")

    # --- refusals ------------------------------------------------------------------------------

    def understood(self, where: str) -> AbstractContextManager[None]:
        """What h5py cannot make sense of is a fault of the file."""
        return understood(self.name, where, "HDF5", _UNREADABLE)

    def refuse(self, where: str, what: str) -> NoReturn:
        """Raise what is said of a thing that Keras does not write."""
        place = where.strip("/")[:_SHOWN] or "the root group"
        raise FileError(
            f"{self.name}: {place} holds {what}. Keras writes no such thing, so bnfix does not "
            "follow it; save the model again from where it came."
        )


def _reader(file: Any) -> Read:
    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return bytes(file.read(length))

    return read
