"""bnfix: repair Keras models whose predictions depend on the batch.

Names are loaded on first use, so that `import bnfix` itself imports no Keras, TensorFlow or h5py.

In the examples of docstrings `model` is a built and compiled Keras model, `x` and `y` are arrays.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnfix import callbacks as callbacks
    from bnfix.checks.check import CheckReport as CheckReport
    from bnfix.checks.check import Finding as Finding
    from bnfix.checks.check import assert_batch_invariant as assert_batch_invariant
    from bnfix.checks.check import check as check
    from bnfix.checks.measurement import Gap as Gap
    from bnfix.checks.measurement import LayerGap as LayerGap
    from bnfix.checks.measurement import Measurement as Measurement
    from bnfix.diagnosis.data_facts import Losses as Losses
    from bnfix.diagnosis.diagnosis_report import LayerDistance as LayerDistance
    from bnfix.errors import BatchDependenceError as BatchDependenceError
    from bnfix.errors import BnfixError as BnfixError
    from bnfix.errors import BnfixWarning as BnfixWarning
    from bnfix.errors import DataError as DataError
    from bnfix.errors import FileError as FileError
    from bnfix.errors import ModelError as ModelError
    from bnfix.errors import OptionError as OptionError
    from bnfix.errors import ResourceError as ResourceError
    from bnfix.errors import StatisticsError as StatisticsError
    from bnfix.errors import UnsafeFileError as UnsafeFileError
    from bnfix.errors import UnsupportedModelError as UnsupportedModelError
    from bnfix.errors import VerificationError as VerificationError
    from bnfix.errors import WorkerError as WorkerError
    from bnfix.files.file_report import Defect as Defect
    from bnfix.files.file_report import FileRepair as FileRepair
    from bnfix.files.file_report import FileReport as FileReport
    from bnfix.files.file_report import NormRecord as NormRecord
    from bnfix.files.inspect import inspect as inspect
    from bnfix.files.load import load as load
    from bnfix.files.repair import repair_file as repair_file
    from bnfix.files.save import save as save
    from bnfix.fitting.group_norm_report import GroupNormReport as GroupNormReport
    from bnfix.fitting.group_norm_report import LayerGroups as LayerGroups
    from bnfix.graph.graph import Call as Call
    from bnfix.graph.graph import Graph as Graph
    from bnfix.graph.graph import Value as Value
    from bnfix.operations.batch_invariant import BatchInvariant as BatchInvariant
    from bnfix.operations.batch_invariant import batch_invariant as batch_invariant
    from bnfix.operations.diagnose import DiagnosisReport as DiagnosisReport
    from bnfix.operations.diagnose import Symptom as Symptom
    from bnfix.operations.diagnose import diagnose as diagnose
    from bnfix.operations.fold import fold as fold
    from bnfix.operations.freeze import freeze as freeze
    from bnfix.operations.graph_of import graph_of as graph_of
    from bnfix.operations.open_up import open_up as open_up
    from bnfix.operations.repair import repair as repair
    from bnfix.operations.repair_report import RepairOutcome as RepairOutcome
    from bnfix.operations.repair_report import RepairReport as RepairReport
    from bnfix.operations.replace import BatchNormSpec as BatchNormSpec
    from bnfix.operations.replace import replace as replace
    from bnfix.operations.strip_augmentation import strip_augmentation as strip_augmentation
    from bnfix.operations.strip_training import strip_training as strip_training
    from bnfix.operations.to_group_norm import to_group_norm as to_group_norm
    from bnfix.outcomes import LayerRecord as LayerRecord
    from bnfix.outcomes import Outcome as Outcome
    from bnfix.outcomes import Report as Report
    from bnfix.recalibration.recalibrate import recalibrate as recalibrate
    from bnfix.recalibration.rounds import statistics as statistics
    from bnfix.recalibration.shards import Statistics as Statistics
    from bnfix.recalibration.statistics import LayerStatistics as LayerStatistics
    from bnfix.recalibration.statistics import RecalibrationReport as RecalibrationReport
    from bnfix.recalibration.verdict import Verdict as Verdict
    from bnfix.remedy import Remedy as Remedy

__version__ = "0.2.0"

_HOME = {
    "assert_batch_invariant": "bnfix.checks.check",
    "check": "bnfix.checks.check",
    "CheckReport": "bnfix.checks.check",
    "Finding": "bnfix.checks.check",
    "BatchDependenceError": "bnfix.errors",
    "BnfixError": "bnfix.errors",
    "BnfixWarning": "bnfix.errors",
    "OptionError": "bnfix.errors",
    "ResourceError": "bnfix.errors",
    "DataError": "bnfix.errors",
    "FileError": "bnfix.errors",
    "ModelError": "bnfix.errors",
    "StatisticsError": "bnfix.errors",
    "UnsafeFileError": "bnfix.errors",
    "UnsupportedModelError": "bnfix.errors",
    "VerificationError": "bnfix.errors",
    "WorkerError": "bnfix.errors",
    "FileRepair": "bnfix.files.file_report",
    "FileReport": "bnfix.files.file_report",
    "inspect": "bnfix.files.inspect",
    "load": "bnfix.files.load",
    "repair_file": "bnfix.files.repair",
    "save": "bnfix.files.save",
    "callbacks": "bnfix.callbacks",
    "Call": "bnfix.graph.graph",
    "Graph": "bnfix.graph.graph",
    "Value": "bnfix.graph.graph",
    "batch_invariant": "bnfix.operations.batch_invariant",
    "BatchInvariant": "bnfix.operations.batch_invariant",
    "diagnose": "bnfix.operations.diagnose",
    "DiagnosisReport": "bnfix.operations.diagnose",
    "Symptom": "bnfix.operations.diagnose",
    "fold": "bnfix.operations.fold",
    "freeze": "bnfix.operations.freeze",
    "GroupNormReport": "bnfix.fitting.group_norm_report",
    "to_group_norm": "bnfix.operations.to_group_norm",
    "BatchNormSpec": "bnfix.operations.replace",
    "replace": "bnfix.operations.replace",
    "open_up": "bnfix.operations.open_up",
    "graph_of": "bnfix.operations.graph_of",
    "repair": "bnfix.operations.repair",
    "strip_augmentation": "bnfix.operations.strip_augmentation",
    "strip_training": "bnfix.operations.strip_training",
    "recalibrate": "bnfix.recalibration.recalibrate",
    "Outcome": "bnfix.outcomes",
    "Report": "bnfix.outcomes",
    "Remedy": "bnfix.remedy",
    "Measurement": "bnfix.checks.measurement",
    "Gap": "bnfix.checks.measurement",
    "LayerGap": "bnfix.checks.measurement",
    "LayerDistance": "bnfix.diagnosis.diagnosis_report",
    "Losses": "bnfix.diagnosis.data_facts",
    "LayerRecord": "bnfix.outcomes",
    "NormRecord": "bnfix.files.file_report",
    "Defect": "bnfix.files.file_report",
    "LayerGroups": "bnfix.fitting.group_norm_report",
    "Statistics": "bnfix.recalibration.shards",
    "statistics": "bnfix.recalibration.rounds",
    "RecalibrationReport": "bnfix.recalibration.statistics",
    "LayerStatistics": "bnfix.recalibration.statistics",
    "Verdict": "bnfix.recalibration.verdict",
    "RepairReport": "bnfix.operations.repair_report",
    "RepairOutcome": "bnfix.operations.repair_report",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bnfix' has no attribute {name!r}")
    home = importlib.import_module(_HOME[name])
    value = home if _HOME[name] == f"bnfix.{name}" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
