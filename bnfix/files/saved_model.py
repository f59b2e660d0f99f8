"""What does a SavedModel say of its model, and how is it opened without running its program?

A SavedModel is a program: TensorFlow graphs, which may read and write files. Keras 2 puts beside
them what the model was made from, so the model is built anew from its configuration and gets its
variables from the checkpoint. No graph of the file is run.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnfix.adapters import kerases, opening
from bnfix.errors import BnfixWarning, FileError, gist
from bnfix.files.config import layers_of
from bnfix.files.container import Format, Stored
from bnfix.files.file_report import FileReport
from bnfix.files.norms import record
from bnfix.files.plan import plan_for
from bnfix.files.summary import report_on
from bnfix.files.text import Json, parsed

_MAX_PROGRAM = 256 << 20
_CHECKPOINT = "variables/variables"
_CONFIG_LOST = "layer was saved without config"


def stored_in(path: Path) -> Stored:
    """What the SavedModel in the folder `path` says of its model; its weights are not opened."""
    if problem := kerases.lack(2):
        raise FileError(f"{path.name} is a SavedModel, which Keras 2 reads. {problem}.")
    told = _root_metadata(path)
    model = told.get("model_config", told) if told else None
    version = told.get("keras_version") if told else None
    if isinstance(model, dict):
        model = {key: model.get(key) for key in ("class_name", "config")}
    training = told.get("training_config") if told else None
    return Stored(
        path=path,
        format=Format.SAVED_MODEL,
        keras_version=version if isinstance(version, str) else None,
        model=model if isinstance(model, dict) else None,
        training=training if isinstance(training, dict) else None,
        weights=None,
    )


def inspect_saved_model(path: Path) -> FileReport:
    """The report on the SavedModel in `path`."""
    stored = stored_in(path)
    layers = list(layers_of(stored.model)) if stored.model is not None else []
    norms = [layer for layer in layers if layer.is_batch_norm]
    try:
        held = opening.checkpoint(str(path / _CHECKPOINT), [layer.tracked for layer in norms])
    except ImportError as error:
        raise _without_tensorflow(path, error) from error
    except Exception as error:  # whatever TensorFlow raises on a checkpoint
        raise FileError(
            f"{path.name}: its variables cannot be read: {gist(error)}. A whole SavedModel is "
            "required; fetch or copy it again."
        ) from error
    records = tuple(record(layer, values) for layer, values in zip(norms, held, strict=True))
    return report_on(stored, layers, records)


def load_saved_model(path: Path, objects: Mapping[str, Any], *, allow_unsafe: bool) -> Any:
    """The Keras 2 model of the SavedModel in `path`, built anew from its configuration."""
    stored = stored_in(path)
    if allow_unsafe:
        return _opened_as_program(path, objects)
    config = (stored.model or {}).get("config")
    if not isinstance(config, dict) or _CONFIG_LOST in config:
        raise FileError(
            f"{path.name} is a SavedModel without the configuration of its model: a program that "
            "can only be run. Build the model by the code that made it and call "
            f"model.load_weights({str(path / _CHECKPOINT)!r}); or, if you trust its author as you "
            "trust a program's, pass allow_unsafe=True.",
            advises=("allow_unsafe",),
        )
    plan = plan_for(stored, objects, allow_unsafe=False)
    try:
        model = opening.rebuild(_root(), json.dumps(stored.model), plan.objects)
        opening.restore(model, str(path / _CHECKPOINT))
    except Exception as error:  # whatever Keras 2 raises on a configuration
        plan = replace(plan, roots=(_root(),))
        raise plan.refusal({_root(): error}) from error
    why = plan.uncompiled
    if stored.training and why is None:
        try:
            opening.compile_as(_root(), model, stored.training, plan.objects)
            opening.restore(model, str(path / _CHECKPOINT), partly=True)
        except Exception as error:
            why = gist(error)
    if why:
        warnings.warn(plan.without_compilation(why), BnfixWarning, stacklevel=4)
    plan.log(_root())
    return model


def _opened_as_program(path: Path, objects: Mapping[str, Any]) -> Any:
    try:
        return opening.open_model(_root(), str(path), objects, compile=True, safe=False)
    except Exception as error:
        raise FileError(f"{path.name} cannot be opened: Keras 2 says {gist(error)}.") from error


def _root() -> str:
    """The package that is Keras 2, which `stored_in` has looked for."""
    return str(kerases.root_of(2))


def _without_tensorflow(path: Path, error: ImportError) -> FileError:
    return FileError(
        f"{path.name} is a SavedModel, which only TensorFlow reads, and it cannot be imported here "
        f"({gist(error)}). The file may be whole: install tensorflow and tf-keras, and try again."
    )


def _root_metadata(path: Path) -> Json | None:
    """What Keras 2 noted down about the model itself; None if it has written nothing there."""
    name = "keras_metadata.pb" if (path / "keras_metadata.pb").is_file() else "saved_model.pb"
    file = path / name
    if file.stat().st_size > _MAX_PROGRAM:
        raise FileError(
            f"{path.name}: its {name} has {file.stat().st_size:,} bytes; at most {_MAX_PROGRAM:,} "
            "are read."
        )
    try:
        text = opening.saved_metadata(_root(), file.read_bytes(), name)
    except ImportError as error:
        raise _without_tensorflow(path, error) from error
    except Exception as error:  # protobuf's own error classes are no public names
        raise FileError(
            f"{path.name}: its {name} cannot be read: {gist(error)}. A whole SavedModel is "
            "required; fetch or copy it again."
        ) from error
    return parsed(text, f"{path.name}: its {name}") if text else None
