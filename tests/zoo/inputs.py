"""Random inputs and targets for a model, in the structure it takes.

Read from the model's symbolic inputs. Where these do not say enough (no graph, padding for a mask,
an optional input left out), the entry's own `sample` is used; `build` remembers it for each model.
"""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .entry import Sample

WORDS = ("cat", "dog", "bird", "fish")
INTEGERS = 8  # an Embedding in the zoo has input_dim >= 8
FREE_SIZE = 8  # for a dimension that is None

_SAMPLES: "weakref.WeakKeyDictionary[Any, Sample]" = weakref.WeakKeyDictionary()


def remember(model: Any, sample: Sample | None) -> None:
    """Let `inputs_for(model, ...)` use `sample`."""
    if sample is not None:
        _SAMPLES[model] = sample


def inputs_for(model: Any, rows: int, seed: int = 0) -> Any:
    """Random inputs for `model(x)` and `model.predict(x)`.

    Leaves are `(rows, ...)` arrays: standard normal floats, integers in 0..7, booleans, or words. A
    model that takes words gets tensors: Keras 3 predicts on no string array and mixes it with none.

    Raises:
        ValueError: The model has no graph and was not made by `zoo.build`.
    """
    rng = np.random.default_rng(seed)
    if model in _SAMPLES:
        return _SAMPLES[model](rows, rng)
    specs = _input_structure(model)
    arrays = map_leaves(lambda spec: _leaf(spec, rows, rng), specs)
    return map_leaves(_tensor, arrays) if _any_strings(specs) else arrays


def targets_for(model: Any, rows: int, seed: int = 0) -> Any:
    """Random targets in [0, 1) of the shape of the model's outputs, for `evaluate` and `fit`."""
    rng = np.random.default_rng(seed + 1)
    outputs = model.outputs if _is_sequential(model) else model.output
    if _is_sequential(model):
        outputs = outputs[0]
    return map_leaves(lambda spec: rng.random(_shape(spec, rows), "float32"), outputs)


def map_leaves(function: Callable[[Any], Any], structure: Any) -> Any:
    """`function` of each leaf, in plain lists, tuples and dicts (tf_keras wraps its own)."""
    if isinstance(structure, dict):
        return {key: map_leaves(function, value) for key, value in structure.items()}
    if isinstance(structure, tuple):
        return tuple(map_leaves(function, value) for value in structure)
    if isinstance(structure, list):
        return [map_leaves(function, value) for value in structure]
    return function(structure)


def to_numpy(tensor: Any) -> np.ndarray:
    """The values of a tensor of any backend; PyTorch hands over none that has a gradient."""
    if not hasattr(tensor, "detach"):
        return np.asarray(tensor)
    held = tensor.detach().cpu()
    return np.asarray(held.float() if "bfloat16" in str(held.dtype) else held)


def _input_structure(model: Any) -> Any:
    if not getattr(model, "inputs", None):
        raise ValueError(f"{model.name} has no symbolic inputs; give its zoo entry a `sample`")
    return model.inputs[0] if _is_sequential(model) else model.input


def _is_sequential(model: Any) -> bool:
    return any(cls.__name__ == "Sequential" for cls in type(model).__mro__)


def _shape(spec: Any, rows: int) -> tuple[int, ...]:
    return (rows, *(FREE_SIZE if size is None else size for size in tuple(spec.shape)[1:]))


def _leaf(spec: Any, rows: int, rng: np.random.Generator) -> Any:
    dtype = getattr(spec.dtype, "name", spec.dtype)
    shape = _shape(spec, rows)
    if dtype == "string":
        return np.asarray(WORDS)[rng.integers(0, len(WORDS), shape)]
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if "int" in dtype:
        return rng.integers(0, INTEGERS, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _any_strings(specs: Any) -> bool:
    found: list[bool] = []
    map_leaves(
        lambda spec: found.append(getattr(spec.dtype, "name", spec.dtype) == "string"), specs
    )
    return any(found)


def _tensor(array: np.ndarray) -> Any:
    import tensorflow as tf  # only here, so that the zoo's module loads without it

    return tf.constant(array)
