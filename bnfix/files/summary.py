"""From what was read of a file to the report on it, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator

from bnfix.files.config import LayerEntry
from bnfix.files.container import Format, Stored
from bnfix.files.file_report import FileReport, NormRecord
from bnfix.files.packages import packages_in
from bnfix.files.trust import Danger, Missing, concerns
from bnfix.outcomes import LayerRecord


def report_on(
    stored: Stored, layers: list[LayerEntry], norms: tuple[NormRecord, ...]
) -> FileReport:
    """The report on a file whose layers and BatchNormalizations have been read."""
    found = list(concerns([stored.model, stored.training]))
    dangers = dict.fromkeys(f"{c.where} {c.what}" for c in found if isinstance(c, Danger))
    missing = {c.name: c.module for c in found if isinstance(c, Missing)}
    # The older formats do not say that a class is not Keras's own.
    named = {layer.kind: None for layer in layers} | missing
    return FileReport(
        path=str(stored.path),
        format="weights" if _is_of_weights(stored) else stored.format.value,
        keras_version=stored.keras_version,
        layers=tuple(LayerRecord(layer.path, layer.kind) for layer in layers),
        batch_norms=norms,
        unsafe=tuple(dangers),
        needs=tuple(missing),
        notes=(*_notes(stored, layers, norms), *packages_in(named)),
    )


def _is_of_weights(stored: Stored) -> bool:
    return stored.model is None and stored.format is not Format.SAVED_MODEL


def _in_training_by_default(
    stored: Stored, layers: list[LayerEntry], norms: tuple[NormRecord, ...]
) -> list[str]:
    """Layers whose own default is training=True, in front of BatchNormalizations of Keras 3.

    Keras notes that down at their calls, but for those in a Sequential, which are known by name.
    """
    if stored.major != 3 or not norms:
        return []
    plain = [layer for layer in layers if layer.is_plain and not layer.is_batch_norm]
    return [
        layer.path
        for layer in plain
        if layer.kind in ("Resizing", "CenterCrop") or layer.kind.startswith("Random")
        if False not in layer.calls
    ]


def _and_more(paths: list[str]) -> str:
    return f" and {len(paths) - 1} more are" if len(paths) > 1 else " is"


def _notes(
    stored: Stored, layers: list[LayerEntry], norms: tuple[NormRecord, ...]
) -> Iterator[str]:
    if _is_of_weights(stored):
        yield (
            "it holds weights alone: build the model by the code that made it and call "
            "model.load_weights(path)"
        )
    elif stored.model is None:
        yield (
            "it is a program without the configuration of its model, which can only be run; "
            "load says how its weights are had"
        )
    if by_default := _in_training_by_default(stored, layers, norms):
        yield (
            f"{by_default[0]}{_and_more(by_default)} in training mode by default: model(x), "
            "compiled calls and the exported model normalize by the batch in every "
            "BatchNormalization behind; predict is right, and so is model(x, training=False), or "
            "bnfix.strip_augmentation(model)"
        )
    if stored.major == 1:
        yield "Keras 1 wrote it; no Keras of today opens its configuration"
    hidden = sum(norm.kind is None for norm in norms)
    if hidden and stored.model is not None:
        yield (
            f"{hidden} BatchNormalization{'s are' if hidden > 1 else ' is'} inside of layers whose "
            "inside the configuration does not tell; the weights tell of them"
        )
    if (
        stored.model is not None
        and stored.weights is None
        and stored.format is not Format.SAVED_MODEL
    ):
        yield "its weights are in a form that is not looked into"
