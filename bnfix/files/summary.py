"""From what was read of a file to the report on it, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator

from bnfix.files.config import LayerEntry
from bnfix.files.container import Format, Stored
from bnfix.files.report import FileReport, LayerRecord, NormRecord
from bnfix.files.trust import Danger, concerns


def report_on(
    stored: Stored, layers: list[LayerEntry], norms: tuple[NormRecord, ...]
) -> FileReport:
    """The report on a file whose layers and BatchNormalizations have been read."""
    found = list(concerns([stored.model, stored.training]))
    dangers = dict.fromkeys(f"{c.where} {c.what}" for c in found if isinstance(c, Danger))
    missing = dict.fromkeys(c.name for c in found if not isinstance(c, Danger))
    return FileReport(
        path=str(stored.path),
        format=stored.format.value if stored.model is not None else "weights",
        keras_version=stored.keras_version,
        layers=tuple(LayerRecord(layer.path, layer.kind) for layer in layers),
        batch_norms=norms,
        unsafe=tuple(dangers),
        needs=tuple(missing),
        notes=tuple(_notes(stored, norms)),
    )


def _notes(stored: Stored, norms: tuple[NormRecord, ...]) -> Iterator[str]:
    if stored.model is None:
        yield (
            "it holds weights alone: build the model by the code that made it and call "
            "model.load_weights(path)"
        )
    if stored.major == 1:
        yield "Keras 1 wrote it; no Keras of today opens its configuration"
    hidden = sum(norm.kind is None for norm in norms)
    if hidden and stored.model is not None:
        yield (
            f"{hidden} are inside of layers whose inside the configuration does not tell; they are "
            "known by their weights"
        )
    if (
        stored.model is not None
        and stored.weights is None
        and stored.format is not Format.SAVED_MODEL
    ):
        yield "its weights are in a form that is not looked into"
