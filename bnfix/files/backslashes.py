r"""How is a file read in which Windows has put backslashes into the names of groups?

TensorFlow 2.13 to 2.15 joined the names of layers by the separator of the machine, so that on
Windows a group is called `layers\dense` where elsewhere `dense` lies in `layers`. Read by its right
name it is found where it belongs; for Keras a copy is made in which it lies there.
"""

from __future__ import annotations

import copy
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from bnfix.files.archive import Archive


@dataclass(frozen=True)
class Backslashes:
    """What names with backslashes stand for; true if there are any.

    Attributes:
        named: By right path, the name that the group has in the file.
        members: By right path, what such names put into a group, be it there itself or not.
    """

    named: Mapping[str, str]
    members: Mapping[str, tuple[str, ...]]

    @classmethod
    def among(cls, names: list[str]) -> Backslashes:
        """Those among `names` of groups at the root."""
        named: dict[str, str] = {}
        members: dict[str, dict[str, None]] = {}
        for name in names:
            if "\\" in name:
                parts = [part for part in name.split("\\") if part]
                named["/".join(parts)] = name
                for depth in range(len(parts)):
                    members.setdefault("/".join(parts[:depth]), {})[parts[depth]] = None
        return cls(named, {path: tuple(held) for path, held in members.items()})

    def __bool__(self) -> bool:
        return bool(self.named)


def with_slashes(source: Path, target: Path, weights: str) -> None:
    """Copy the archive `source` to `target`, with the groups in its member `weights` put right."""
    with Archive(source) as archive, zipfile.ZipFile(target, "w", allowZip64=True) as out:
        for name in archive.names:
            aside = target.with_name("member")
            with aside.open("wb") as file:
                for piece in archive.pieces(name):
                    file.write(piece)
            if name == weights:
                _move(aside)
            member = copy.copy(archive.members[name])
            large = aside.stat().st_size > 1 << 30
            with aside.open("rb") as file, out.open(member, "w", force_zip64=large) as stream:
                shutil.copyfileobj(file, stream)
            aside.unlink()


def _move(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        held: Any = file
        for name in [str(name) for name in held if "\\" in str(name)]:
            held.move(name, "/".join(part for part in name.split("\\") if part))
