"""Where does a command's new model go, and what may be replaced by it?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import bnfix
from bnfix.files.save import place_for


@dataclass(frozen=True)
class Target:
    """A file to be written; refused before any work is done, if it cannot be.

    Attributes:
        out: Its path.
        overwrite: Whether one that is there already may be replaced.
    """

    out: Path
    overwrite: bool

    def __post_init__(self) -> None:
        place_for(self.out)
        writable(self.out, _OPTION)
        self._check_free()

    def write(self, model: Any) -> None:
        """Save `model`, whole or not at all."""
        self._check_free()  # again: the work may have taken hours
        bnfix.save(model, self.out, overwrite=self.overwrite)

    def _check_free(self) -> None:
        if self.out.exists() and not self.overwrite:
            raise _refusal(f"{self.out} exists; --overwrite would replace it", _OPTION)


def writable(place: Path, option: str) -> None:
    """Refuse a place in a folder that is not there or cannot be written to."""
    folder = place.parent
    if not os.access(folder, os.W_OK):
        said = "cannot be written to" if folder.is_dir() else "is no folder"
        raise _refusal(f"{folder} {said}", option)


_OPTION = "'-o' / '--out'"


def _refusal(what: str, option: str) -> click.BadParameter:
    return click.BadParameter(f"{what}. Choose another place.", param_hint=option)
