"""What is in a model file? Answered without TensorFlow, and without running anything of it.

The configuration tells the layers and how they are called, the weights are read for each
BatchNormalization alone, so that the size of the model hardly matters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from bnfix.files.config import LayerEntry, layers_of
from bnfix.files.container import Format, Stored, format_of, opened
from bnfix.files.file_report import FileReport, NormRecord
from bnfix.files.norms import Arrays, record, record_of_weights
from bnfix.files.summary import report_on
from bnfix.files.weight_paths import Places, weight_paths_in
from bnfix.restoring import all_or_nothing


@all_or_nothing()
def inspect(path: str | os.PathLike[str]) -> FileReport:
    """Report what a model file holds: who wrote it, its layers, and each BatchNormalization.

    Nothing is imported but h5py and numpy, except for a SavedModel, which Keras 2 and TensorFlow
    have to read. Nothing is written, and no code of the file is run.

    Args:
        path: `.h5`, `.keras`, `.weights.h5` or the folder of a SavedModel, whatever its name.

    Returns:
        The report; it prints itself, and is true if no BatchNormalization needs mending.

    Raises:
        FileError: It is no model file, damaged, or made to do harm.

    Examples:
        >>> bnfix.save(model, "model.keras")
        >>> [norm.path for norm in bnfix.inspect("model.keras").batch_norms]
        ['bn']
    """
    where, form = format_of(path)
    if form is Format.SAVED_MODEL:
        from bnfix.files.saved_model import inspect_saved_model

        return inspect_saved_model(where)
    with opened(where, form) as stored:
        layers = list(layers_of(stored.model)) if stored.model is not None else []
        return report_on(stored, layers, tuple(_records(stored, layers)))


def _records(stored: Stored, layers: list[LayerEntry]) -> Iterator[NormRecord]:
    if stored.weights is None:
        yield from (record(layer, {}) for layer in layers if layer.is_batch_norm)
        return
    stored_at, hdf5 = weight_paths_in(stored.weights), stored.weights

    def arrays(places: Places) -> Arrays:
        return {role: hdf5.values(place) for role, place in places.items()}

    told: set[str] = set()
    for layer in layers:
        if not layer.is_batch_norm:
            continue
        places = stored_at.of(layer)
        # A layer that belongs to several models is told with each, and stored once.
        name = layer.path.rpartition("/")[2]
        if places or not (name in told or layer.supposed):
            yield record(layer, arrays(places))
        told.add(name)
    for path, places in stored_at.others(layers):
        yield record_of_weights(path, arrays(places))
