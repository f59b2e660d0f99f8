"""What a file holds, as immutable data that prints well."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfix.outcomes import LayerRecord, Outcome, outcome_table
from bnfix.rendering.charts import Cell, Mood, Strip
from bnfix.rendering.story import Column, Part, Remark, Section, Story, Table, notes
from bnfix.report import Rendered, VerbReport

if TYPE_CHECKING:
    from bnfix.operations.repair_report import RepairReport

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

    def story(self) -> Story:
        norms = self.batch_norms
        odd = sum(not norm.ok for norm in norms)
        verdict = f"{odd} of them with a fault or a warning" if odd else "none with a fault"
        number = f"{len(norms)} BatchNormalization{'s' * (len(norms) != 1)}"
        needs = [f"needs custom_objects: {', '.join(self.needs)}"] if self.needs else []
        parts = (
            Remark(f"{self._layers()}, {number}" + (f", {verdict}" if norms else "")),
            Table.of("batch_norms", norms, _NORMS),
            Table.of("defects", _defects(norms), _DEFECTS, _found(norms)),
            *(Remark(f"unsafe: {sentence}", Mood.BAD) for sentence in self.unsafe),
            *(Remark(sentence, Mood.WARNING) for sentence in needs),
            *notes(self.notes),
        )
        head = f"inspect: {self.path}, {self._origin()}"
        return Story(head, parts, Mood.GOOD if self.ok else Mood.BAD, (self._strip(),))

    def _strip(self) -> Strip:
        norms = {norm.path: norm for norm in self.batch_norms}
        layers = self.layers or tuple(LayerRecord(n.path, n.kind or "") for n in norms.values())

        def cell(layer: LayerRecord) -> Cell:
            norm = norms.get(layer.path)
            if norm is None:
                return Cell(layer.path, layer.kind)
            reason = "; ".join(f"{d.kind}: {d.detail}" for d in norm.defects if not norm.ok)
            return Cell(layer.path, layer.kind, Mood.GOOD if norm.ok else Mood.BAD, reason)

        legend = (
            (Mood.GOOD, "BatchNormalization"),
            (Mood.BAD, "BatchNormalization with a fault or a warning"),
            (Mood.PLAIN, "other layer"),
        )
        cells = tuple(cell(layer) for layer in layers)
        there = {each.mood for each in cells}
        told = tuple((mood, meaning) for mood, meaning in legend if mood in there)
        return Strip(
            "The layers in the order of the file", cells, (), told, "the file tells of no layer"
        )

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
    repair: RepairReport | None
    before: FileReport
    after: FileReport

    @property
    def ok(self) -> bool:
        return self.after.ok and (self.repair is None or self.repair.ok)

    @property
    def _how(self) -> str:
        if self.repair is None:
            return "edited without being opened"
        done = str(self.repair.outcome)
        return f"opened, {'left as it was' if done == 'nothing to do' else done} and saved"

    def story(self) -> Story:
        head = f"repair_file: {self.source} {self._how} as {self.target}"
        parts: list[Part] = [outcome_table(self.outcomes)] if self.outcomes else []
        if self.repair is not None:
            parts.append(Section("", self.repair.story()))
        elif not self.outcomes:
            parts.append(Remark("there is nothing to edit: the new file is a copy"))
        left = [norm for norm in self.after.batch_norms if not norm.ok]
        parts += [
            Remark(f"left: {norm.path}: {norm.defects[0].detail}", Mood.BAD)
            for norm in left[:_SHOWN]
        ]
        parts += [Remark(f"and {len(left) - _SHOWN} more")] if len(left) > _SHOWN else []
        told = {"the file before": self.before, "the file after": self.after}
        parts += [Section(title, one.story(), in_text=False) for title, one in told.items()]
        return Story(head, tuple(parts), Mood.GOOD if self.ok else Mood.BAD)


def _axes(axis: tuple[int, ...] | None) -> str:
    return "-" if axis is None else ",".join(map(str, axis))


def _modes(training: tuple[bool, ...]) -> str:
    return " and ".join(map(str, training)) or "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


_GRADES = {"fault": Mood.BAD, "warning": Mood.WARNING, "note": Mood.PLAIN}

_NORMS: tuple[Column[NormRecord], ...] = (
    Column(
        "path",
        lambda norm: norm.path,
        "layer",
    ),
    Column("channels", lambda norm: norm.channels, show=_number, right=True),
    Column("axis", lambda norm: norm.axis, show=_axes, right=True),
    Column("epsilon", lambda norm: norm.epsilon, show=_number, right=True),
    Column("momentum", lambda norm: norm.momentum, show=_number, right=True),
    Column(
        "trainable",
        lambda norm: norm.trainable,
        show=lambda trainable: {True: "yes", False: "no", None: "-"}[trainable],
        right=True,
    ),
    Column(
        "training",
        lambda norm: norm.training,
        "training=",
        _modes,
        mood=lambda norm: Mood.BAD if True in norm.training else Mood.PLAIN,
    ),
)

_DEFECTS: tuple[Column[tuple[NormRecord, Defect]], ...] = (
    Column("severity", lambda at: at[1].severity, mood=lambda at: _GRADES[at[1].severity]),
    Column("kind", lambda at: at[1].kind, mood=lambda at: _GRADES[at[1].severity]),
    Column("path", lambda at: at[0].path, "layer"),
    Column("detail", lambda at: at[1].detail, "what was seen"),
)


def _defects(norms: tuple[NormRecord, ...]) -> list[tuple[NormRecord, Defect]]:
    """Worst first."""
    found = [(norm, defect) for norm in norms for defect in norm.defects]
    return sorted(found, key=lambda at: list(_GRADES).index(at[1].severity))


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
            lines += [f"{severity}: {kind} in {first}{others}", f"  {detail}"]
    return lines
