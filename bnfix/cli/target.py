"""Where does a command's new model go, and what may be replaced by it?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import bnfix


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
        if not self.out.parent.is_dir():
            raise click.BadParameter(
                f"there is no folder {self.out.parent}. Nothing was changed.",
                param_hint="'-o' / '--out'",
            )
        self._check_free()

    def write(self, model: Any) -> None:
        """Save `model`, whole or not at all."""
        self._check_free()  # again: the work may have taken hours
        bnfix.save(model, self.out)

    def _check_free(self) -> None:
        if self.out.exists() and not self.overwrite:
            raise click.BadParameter(
                f"{self.out} exists. Choose another name, or replace it with --overwrite. "
                "Nothing was changed.",
                param_hint="'-o' / '--out'",
            )
