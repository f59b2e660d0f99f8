"""Statistics of a shard as a file: an `.npz` archive of float64 arrays and one text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnfix.errors import FileError, gist
from bnfix.numerics.moments import ChannelMoments, Floats
from bnfix.replacing import replacing

_FORMAT = "bnfix statistics 1"


@dataclass(frozen=True)
class Level:
    """What was found in one round.

    Attributes:
        at: Where in the model.
        found: Moments by path.
    """

    at: str
    found: Mapping[str, ChannelMoments]


@dataclass(frozen=True)
class Record:
    """Everything that statistics of a shard consist of.

    Attributes:
        told: What has to be the same for all shards: the model and the options.
        levels: Those settled, over all shards, and the last of this one.
        rows: Rows of data in it.
        ddof: Of the variance.
        complete: Whether no level is left.
    """

    told: Mapping[str, str]
    levels: tuple[Level, ...]
    rows: int
    ddof: int
    complete: bool

    @property
    def facts(self) -> dict[str, object]:
        """What has to be equal for two to be added up."""
        settled = [
            [part.tobytes() for _, moments in sorted(level.found.items()) for part in moments.part]
            for level in self.levels[:-1]
        ]
        rounds = [level.at for level in self.levels]
        return {**self.told, "rounds": rounds, "levels before": settled, "complete": self.complete}


def written(record: Record, path: Path, *, overwrite: bool) -> None:
    """Write `record` to `path` in one step.

    Raises:
        FileError: As `Statistics.save` tells.
    """
    if path.exists() and not overwrite:
        raise FileError(f"{path} is there already; pass overwrite=True, or another name.")
    levels = [{"at": level.at, "paths": list(level.found)} for level in record.levels]
    text = {
        "format": _FORMAT, "told": dict(record.told), "levels": levels, "rows": record.rows,
        "ddof": record.ddof, "complete": record.complete,
    }  # fmt: skip
    arrays: dict[str, Any] = {
        f"{number}.{at}": np.stack(moments.part)
        for number, level in enumerate(record.levels)
        for at, moments in enumerate(level.found.values())
    }
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez(file, text=np.array(json.dumps(text)), **arrays)


def opened(path: Path) -> Record:
    """What is written at `path`.

    Raises:
        FileError: As `Statistics.load` tells.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            text = json.loads(str(file["text"]))
            if text["format"] != _FORMAT:
                raise ValueError(f"its format is {text['format']!r}")
            levels = tuple(
                Level(
                    level["at"],
                    {
                        name: _moments(file[f"{number}.{at}"])
                        for at, name in enumerate(level["paths"])
                    },
                )
                for number, level in enumerate(text["levels"])
            )
        return Record(text["told"], levels, text["rows"], text["ddof"], text["complete"])
    except Exception as error:  # whatever a damaged archive makes numpy, zipfile and json raise
        raise FileError(
            f"{path} holds no statistics of bnfix {_FORMAT[-1]} ({gist(error)}). Pass a file that "
            "Statistics.save has written."
        ) from error


def _moments(parts: Floats) -> ChannelMoments:
    found = ChannelMoments(parts.shape[1])
    found.merge(*parts)
    return found
