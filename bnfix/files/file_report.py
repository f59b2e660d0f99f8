"""What a file holds, as immutable data that prints well."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from bnfix.report import Outcome, Rendered, VerbReport

#: Layers that are named one by one.
_SHOWN = 5


@dataclass(frozen=True)
class Defect(Rendered):
    """Something in the stored numbers or calls of a BatchNormalization.

    Attributes:
        kind: "baked_training", "nonfinite", "negative_variance", "never_updated", "tiny_variance",
            "wrong_length" or "no_statistics".
        severity: "fault", "warning" or "note", as in `diagnose`; notes leave a file ok.
        detail: What was seen, in numbers.
    """

    kind: str
    severity: str
    detail: str


@dataclass(frozen=True)
class NormRecord(Rendered):
    """One BatchNormalization in a file.

    Attributes:
        path: Full path of the layer.
        kind: Its class; None where the file holds weights alone.
        axis: Along which it normalizes; several in rare cases; None if not told, as are the next.
        epsilon: Added to the variance.
        momentum: Of its moving statistics.
        trainable: Whether it and the models around it are.
        training: Every `training=` written into one of its calls or around it.
        channels: Length of its moving variance; None if it is not in the file.
        defects: What is wrong or odd with it.
    """

    path: str
    kind: str | None
    axis: tuple[int, ...] | None
    epsilon: float | None
    momentum: float | None
    trainable: bool | None
    training: tuple[bool, ...]
    channels: int | None
    defects: tuple[Defect, ...]

    @property
    def ok(self) -> bool:
        return all(defect.severity == "note" for defect in self.defects)


@dataclass(frozen=True)
class LayerRecord(Rendered):
    """One layer in a file.

    Attributes:
        path: Full path of the layer.
        kind: Name of its class.
    """

    path: str
    kind: str


@dataclass(frozen=True)
class FileReport(VerbReport):
    """What is in a model file; true if no BatchNormalization in it needs mending.

    Attributes:
        path: The file.
        format: "h5", "keras" or "saved_model", told by its content; weights alone are "weights".
        keras_version: Of the Keras that wrote it, as it says; None if it does not.
        layers: In the order of the configuration, nested ones after their model.
        batch_norms: One record each, in the same order.
        unsafe: What opening it would run or read that is not Keras's own, a sentence each.
        needs: Classes and functions that `load` has to be given.
        notes: What else the user should know, a sentence each.
    """

    path: str
    format: str
    keras_version: str | None
    layers: tuple[LayerRecord, ...]
    batch_norms: tuple[NormRecord, ...]
    unsafe: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(norm.ok for norm in self.batch_norms)

    def __str__(self) -> str:
        norms = self.batch_norms
        odd = sum(not norm.ok for norm in norms)
        verdict = f"{odd} of them with a fault or a warning" if odd else "none with a fault"
        number = f"{len(norms)} BatchNormalization{'s' * (len(norms) != 1)}"
        lines = [
            f"inspect: {self.path}, {self._origin()}",
            f"  {self._layers()}, {number}" + (f", {verdict}" if norms else ""),
            *_table(norms),
            *_found(norms),
            *(f"  unsafe: {sentence}" for sentence in self.unsafe),
            *([f"  needs custom_objects: {', '.join(self.needs)}"] if self.needs else []),
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(_printable(line) for line in lines)

    def _layers(self) -> str:
        if self.batch_norms and not self.layers:
            return "layers not told by the file"
        number = f"{len(self.layers)} layer{'s' * (len(self.layers) != 1)}"
        hidden = self.layers and any(norm.kind is None for norm in self.batch_norms)
        return f"{number} told by the file" if hidden else number

    def _origin(self) -> str:
        names = {"h5": ".h5", "keras": ".keras", "saved_model": "SavedModel", "weights": "weights"}
        by = f"Keras {self.keras_version}" if self.keras_version else "an unknown Keras"
        return f"{names[self.format]} written by {by}"


@dataclass(frozen=True)
class FileRepair(VerbReport):
    """What was done to a file; true if nothing in the new one needs mending.

    Attributes:
        source: The file read.
        target: The file written.
        loaded: Whether the model was opened; otherwise the file was edited.
        outcomes: What was edited, and what was not; empty if the model was opened.
        repair: The `RepairReport` of the model, if it was opened.
        before: What `inspect` says of the source.
        after: What it says of the target.
    """

    source: str
    target: str
    loaded: bool
    outcomes: tuple[Outcome, ...]
    repair: Any
    before: FileReport
    after: FileReport

    @property
    def ok(self) -> bool:
        return self.after.ok and (self.repair is None or self.repair.ok)

    def __str__(self) -> str:
        how = "opened, repaired and saved" if self.loaded else "edited without being opened"
        lines = [f"repair_file: {self.source} {how} as {self.target}"]
        lines += [
            f"  {'changed ' if outcome.changed else 'declined'}  {outcome.path}: {outcome.detail}"
            for outcome in self.outcomes
        ]
        if self.repair is not None:
            lines += [f"  {line}" for line in str(self.repair).splitlines()]
        elif not self.outcomes:
            lines.append("  there is nothing to edit: the new file is a copy")
        left = [norm for norm in self.after.batch_norms if not norm.ok]
        lines += [f"  left: {norm.path}: {norm.defects[0].detail}" for norm in left[:_SHOWN]]
        return "\n".join([*lines, *([f"  and {len(left) - _SHOWN} more"] * (len(left) > _SHOWN))])


def _table(norms: tuple[NormRecord, ...]) -> list[str]:
    if not norms:
        return []
    width = max(len("layer"), *(len(norm.path) for norm in norms))
    head = f"  {'layer':<{width}}  channels  axis  epsilon  momentum  trainable  training="
    return [head, *(_row(norm, width) for norm in norms)]


def _row(norm: NormRecord, width: int) -> str:
    axis = "-" if norm.axis is None else ",".join(str(axis) for axis in norm.axis)
    trainable = {True: "yes", False: "no", None: "-"}[norm.trainable]
    training = " and ".join(str(mode) for mode in norm.training) or "-"
    return (
        f"  {norm.path:<{width}}  {_number(norm.channels):>8}  {axis:>4}  "
        f"{_number(norm.epsilon):>7}  {_number(norm.momentum):>8}  {trainable:>9}  {training}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _found(norms: tuple[NormRecord, ...]) -> list[str]:
    """Each kind of defect once: how often, where first, and what was seen there."""
    often = Counter((d.severity, d.kind) for norm in norms for d in norm.defects)
    lines: list[str] = []
    for severity in ("fault", "warning", "note"):
        for kind in [kind for grade, kind in often if grade == severity]:
            first, detail = next(
                (n.path, d.detail)
                for n in norms
                for d in n.defects
                if (d.severity, d.kind) == (severity, kind)
            )
            more = often[severity, kind] - 1
            others = f" and {more} more" if more else ""
            lines += [f"  {severity}: {kind} in {first}{others}", f"    {detail}"]
    return lines


def _printable(line: str) -> str:
    """Names come from the file, and terminals obey some characters."""
    return "".join(mark if mark.isprintable() else "?" for mark in line)
