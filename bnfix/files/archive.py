"""How is a zip archive read whose content is not to be trusted?

A `.keras` file is a zip archive of `config.json`, `metadata.json`, `model.weights.h5` and, rarely,
`assets/`. Keras extracts all of it where there are assets, so names that lead out of the folder,
links and members that unpack to far more than they are refused before Keras sees them.
"""

from __future__ import annotations

import io
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

from bnfix.errors import FileError
from bnfix.files.damage import understood

_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, KeyError,
    NotImplementedError, UnicodeError, OverflowError, MemoryError,
)  # fmt: skip

_MAX_MEMBERS = 10_000
#: Deflate reaches 1,000; weights pack to little less than they are, text to a tenth.
_MAX_EXPANSION = 100
_MAX_SURPLUS = 64 << 20
_PIECE = 1 << 20
#: Largest read from the file at once; the directory of an archive is read in one go.
_MAX_READ = 8 << 20


class Archive:
    """An open zip archive, read with distrust.

    Attributes:
        name: What messages call the file.
        members: By name, in order.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.size = path.name, path.stat().st_size
        self._file = _Reader(path)
        try:
            with self._understood("as a whole"):
                self._zip = zipfile.ZipFile(self._file)
            self.members = self._checked()
        except BaseException:  # Ctrl-C too leaves no file open
            self._file.close()
            raise

    @property
    def names(self) -> list[str]:
        return list(self.members)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()
        self._file.close()

    def read(self, name: str, limit: int) -> bytes:
        """The whole member `name`, of at most `limit` bytes."""
        member = self.members.get(name)
        if member is None:
            self._refuse(f"no {name}", f"with one, as {_WRITTEN} has it,")
        if member.file_size > limit:
            self._refuse(f"{name} of {member.file_size:,} bytes", f"of {limit:,} at most")
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """The member `name`, a megabyte at a time."""
        member, left = self.members[name], self.members[name].file_size
        with self._understood(name), self._zip.open(member) as stream:
            while piece := stream.read(_PIECE):
                left -= len(piece)
                if left < 0:
                    self._refuse(f"more of {name} than it says", "that keeps to its directory")
                yield piece

    @contextmanager
    def opened(self, name: str) -> Generator[tuple[IO[bytes], int]]:
        """The member `name` as a file to seek in, and its size."""
        member = self.members[name]
        if member.compress_type == zipfile.ZIP_STORED:
            with self._understood(name):
                begin = self._begin(member)
            # Keras packs nothing, so the member lies in the archive as it is.
            yield io.BufferedReader(_Part(self._file, begin, member.file_size)), member.file_size
            return
        with tempfile.TemporaryFile() as copy:
            for piece in self.pieces(name):
                copy.write(piece)
            copy.seek(0)
            yield copy, member.file_size

    def _begin(self, member: zipfile.ZipInfo) -> int:
        """Where the content of `member` begins, behind its header and the name repeated there."""
        self._zip.open(member).close()  # compares the header with the directory
        self._file.seek(member.header_offset)
        header = self._file.read(30)
        return member.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        members = self._zip.infolist()
        if len(members) > _MAX_MEMBERS:
            self._refuse(f"{len(members):,} members", f"of {_MAX_MEMBERS:,} at most")
        found: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            self._check(member)
            if member.filename in found:
                self._refuse(f"two members named {member.filename!r}", "where each has its name")
            found[member.filename] = member
        total = sum(member.file_size for member in members)
        if total > self.size * _MAX_EXPANSION + _MAX_SURPLUS:
            self._refuse(f"{total:,} bytes packed into {self.size:,}", "of a credible size")
        return found

    def _check(self, member: zipfile.ZipInfo) -> None:
        name = member.filename
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
            self._refuse(f"{name!r}, which leads out of the archive", "without such names")
        if stat.S_ISLNK(member.external_attr >> 16):
            self._refuse(f"{name!r}, which is a link", "of plain files")
        if member.flag_bits & 1:
            self._refuse(f"{name!r}, which is encrypted", "that is not encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            self._refuse(f"{name!r}, packed in an unusual way", "stored or deflated")
        surplus = member.file_size - member.compress_size * _MAX_EXPANSION
        if surplus > _MAX_SURPLUS // 64:
            self._refuse(
                f"{name!r}, {member.file_size:,} bytes packed into {member.compress_size:,}",
                "of a credible size",
            )

    def _understood(self, where: str) -> AbstractContextManager[None]:
        return understood(self.name, where, "a zip archive", _UNREADABLE)

    def _refuse(self, what: str, required: str) -> NoReturn:
        raise FileError(
            f"{self.name} holds {what}. An archive {required} is required; save the model again "
            "from where it came."
        )


_WRITTEN = "every `.keras` file"


class _Reader(io.FileIO):
    """A file that does not give more than a few megabytes at once, whatever it says of itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_READ:
            raise zipfile.BadZipFile(f"its directory would be {size:,} bytes")
        return super().read(_MAX_READ if size is None or size < 0 else size)


class _Part(io.RawIOBase):
    """A part of a file, as a file of its own."""

    def __init__(self, file: io.FileIO, begin: int, size: int) -> None:
        self._file, self._begin, self._size, self._at = file, begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._begin + self._at)
        count = self._file.readinto(memoryview(buffer)[:wanted])
        self._at += count
        return count
