"""Independent references: what Keras itself computes, seen from outside bnfix."""

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import zoo


def leaves(structure: Any) -> list[Any]:
    """Leaves of nested dicts (by sorted key), lists and tuples."""
    if isinstance(structure, dict):
        structure = [structure[key] for key in sorted(structure)]
    if isinstance(structure, list | tuple):
        return [leaf for part in structure for leaf in leaves(part)]
    return [] if structure is None else [structure]


def numbers(structure: Any) -> list[np.ndarray]:
    """Leaves as float64 arrays; bfloat16 and ragged tensors included."""
    dense = [leaf.to_tensor() if hasattr(leaf, "to_tensor") else leaf for leaf in leaves(structure)]
    return [_array(leaf) for leaf in dense]


def _array(leaf: Any) -> np.ndarray:
    found = zoo.to_numpy(leaf)
    return found.astype(np.float64) if found.dtype.kind != "O" else found


def inferred(model: Any, x: Any) -> list[np.ndarray]:
    """Outputs in inference mode."""
    return numbers(model(x, training=False))


def weights_of(model: Any) -> list[np.ndarray]:
    """Copies of all weights, in Keras's order."""
    return [np.array(weight.numpy()) for weight in model.weights]


def not_checked(*args: Any, **options: Any) -> Any:
    """In place of bnfix's own proof, so that a test stands alone."""
    return SimpleNamespace(notes=("not checked",))


def assert_same_weights(model: Any, before: list[np.ndarray]) -> None:
    """Bit for bit, NaN equal to itself."""
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value, err_msg=weight.name)


def assert_close(got: list[np.ndarray], wanted: list[np.ndarray], relative: float) -> None:
    """Equal to `relative` times the largest value of each output."""
    for a, b in zip(got, wanted, strict=True):
        scale = max(float(np.max(np.abs(b), initial=0.0)), 1e-30)
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * scale)


def rows_of(x: Any, rows: Any) -> Any:
    """The given rows of nested inputs."""
    if isinstance(x, dict):
        return {key: rows_of(part, rows) for key, part in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(rows_of(part, rows) for part in x)
    return x[rows]


@contextmanager
def watched(layers: list[Any], seen: dict[int, list[tuple[np.ndarray, Any]]]):
    """Record `(inputs, mask)` of every call of `layers`, by id."""

    def watch(layer: Any) -> None:
        call = layer.call

        def spy(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            mask = kwargs.get("mask")
            if mask is None:
                mask = getattr(inputs, "_keras_mask", None)
            kept = None if mask is None else np.array(mask)
            seen.setdefault(id(layer), []).append((_array(inputs), kept))
            return call(inputs, *args, **kwargs)

        layer.call = spy

    for layer in layers:
        watch(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


def population(layer: Any, calls: list[tuple[np.ndarray, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance per channel of everything that reached `layer`, in float64."""
    rows = []
    for inputs, mask in calls:
        axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
        # tf_keras counts the axis that virtual batches put in front.
        axis -= 1 if getattr(layer, "virtual_batch_size", None) else 0
        moved = np.moveaxis(inputs, axis, -1)
        rows.append(
            moved.reshape(-1, moved.shape[-1]) if mask is None else moved[mask.astype(bool)]
        )
    values = np.concatenate(rows)
    return values.mean(axis=0), values.var(axis=0)


def statistics(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """What `layer` normalizes by, in float64."""
    return _array(layer.moving_mean).reshape(-1), _array(layer.moving_variance).reshape(-1)


def deviation(layer: Any, found: tuple[Any, Any], wanted: tuple[Any, Any]) -> float:
    """Largest difference of mean or standard deviation, in standard deviations (plus epsilon)."""
    sigma = np.sqrt(wanted[1] + layer.epsilon)
    apart_mean = np.max(np.abs(found[0] - wanted[0]) / sigma)
    apart_std = np.max(np.abs(np.sqrt(np.maximum(found[1], 0) + layer.epsilon) - sigma) / sigma)
    return float(max(apart_mean, apart_std))


def worst_deviation(model: Any, x: Any) -> float:
    """How far any BN of `model` is from the population of its own inputs in inference on all of
    `x`.

    Zero in topological order means exact: the first BN sees raw features, each later one sees
    features that exact statistics have normalized.
    """
    norms = zoo.batch_norms(model)
    seen: dict[int, list[tuple[np.ndarray, Any]]] = {}
    with watched(norms, seen):
        model(x, training=False)
    reached = [layer for layer in norms if id(layer) in seen]
    return max(deviation(n, statistics(n), population(n, seen[id(n)])) for n in reached)


@contextmanager
def in_dtype(K, dtype):
    """Layers made in the block compute in `dtype`."""
    before = K.backend.floatx(), K.mixed_precision.global_policy()
    K.backend.set_floatx(dtype)
    K.mixed_precision.set_global_policy(dtype)
    try:
        yield
    finally:
        K.backend.set_floatx(before[0])
        K.mixed_precision.set_global_policy(before[1])
