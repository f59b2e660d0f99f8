"""What editors complete: pyright reads this file, and nothing runs it.

A wrong annotation of the public face is an error here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import bnfix


def verbs(model: Any, ds: Any, make: Any) -> None:
    assert_type(bnfix.freeze(model, return_report=True), tuple[Any, bnfix.Report])
    assert_type(bnfix.fold(model, strict=True, return_report=True), tuple[Any, bnfix.Report])
    assert_type(bnfix.open_up(model, return_report=True), tuple[Any, bnfix.Report])
    assert_type(bnfix.replace(model, make, return_report=True), tuple[Any, bnfix.Report])
    assert_type(bnfix.strip_training(model, return_report=True), tuple[Any, bnfix.Report])
    assert_type(bnfix.strip_augmentation(model, return_report=True), tuple[Any, bnfix.Report])
    assert_type(
        bnfix.to_group_norm(model, ds, return_report=True), tuple[Any, bnfix.GroupNormReport]
    )
    assert_type(
        bnfix.recalibrate(model, ds, return_report=True), tuple[Any, bnfix.RecalibrationReport]
    )
    assert_type(bnfix.repair(model, ds, return_report=True), tuple[Any, bnfix.RepairReport])
    assert_type(bnfix.repair_file("a", "b", return_report=True), tuple[Path, bnfix.FileRepair])


def without_a_report(model: Any, ds: Any) -> None:
    assert_type(bnfix.repair_file("a", "b"), Path)
    assert_type(bnfix.check(model, ds), bnfix.CheckReport)
    assert_type(bnfix.diagnose(model, ds), bnfix.DiagnosisReport)
    assert_type(bnfix.inspect("a"), bnfix.FileReport)
    bnfix.fold(model).predict(ds)  # a model is of whatever Keras it is
