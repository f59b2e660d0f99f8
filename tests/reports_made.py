"""A real report of every verb, of a small model whose second BN goes by the batch."""

from __future__ import annotations

import dataclasses
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import zoo

import bnfix
from bnfix.report import Rendered, Word

QUIET: dict[str, Any] = {"verbose": 0, "return_report": True}


def made(dialect: str, folder: Path) -> dict[str, Any]:
    """By a name for each; files are written to `folder`."""
    command_line.fill(folder, dialect)
    x = np.load(folder / "x.npy")
    y = command_line.digits()[1]
    K = zoo.keras_module(dialect)
    model = bnfix.load(folder / "model.h5")
    ill, well = folder / "model.h5", folder / "new.h5"
    found = {
        "inspect": bnfix.inspect(ill),
        "check": bnfix.check(model, x, verbose=0),
        "diagnose": bnfix.diagnose(model, (x, y), verbose=0),
        "diagnose without data": bnfix.diagnose(model, verbose=0),
        "repair": bnfix.repair(model, (x, y), fold=True, **QUIET)[1],
        "repair_file": bnfix.repair_file(ill, well, return_report=True)[1],
        "repair_file with data": bnfix.repair_file(
            ill, well, ds=x, overwrite=True, return_report=True
        )[1],
        "fold": bnfix.fold(model, **QUIET)[1],
        "fold lowered": bnfix.fold(model, lower=True, **QUIET)[1],
        "freeze": bnfix.freeze(bnfix.load(ill), return_report=True)[1],
        "strip_training": bnfix.strip_training(model, **QUIET)[1],
        "strip_augmentation": bnfix.strip_augmentation(model, **QUIET)[1],
        "to_group_norm": bnfix.to_group_norm(model, x, **QUIET)[1],
        "replace": bnfix.replace(model, lambda spec: K.layers.LayerNormalization(), **QUIET)[1],
        "open_up": bnfix.open_up(model, **QUIET)[1],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bnfix.BnfixWarning)
        found["recalibrate"] = bnfix.recalibrate(model, (x, y), min_count=1, **QUIET)[1]
    found["check of a sound model"] = bnfix.check(bnfix.load(well), x, verbose=0)
    return found


#: What must reach no reader as it is: markup, entities, mathematics, what terminals obey, length.
HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt;$x^2$\x1b[31m\n\u202e"
)


def poisoned(value: Any) -> Any:
    """The same report in which every text that could come from a file is `HOSTILE`."""
    if isinstance(value, Rendered) and dataclasses.is_dataclass(value):
        changed = {
            field.name: poisoned(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in ("severity", "format", "remedy")  # a fixed few
        }
        return dataclasses.replace(value, **changed)
    if isinstance(value, tuple):
        return type(value)(map(poisoned, value))
    if isinstance(value, str) and not isinstance(value, Word):
        return f"{HOSTILE}{value}"
    return value


def headless() -> str | None:
    """The path of a Chromium, or None."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)
