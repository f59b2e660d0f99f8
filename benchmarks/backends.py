"""What do the verbs find on each backend of Keras 3, how far from TensorFlow, in which time?

    python -m benchmarks.backends --environments DIR

Each backend runs in a process of its own: JAX and PyTorch by the Python of the environments `jax`
and `torch` in DIR. Weights and inputs are made by NumPy, and so the same everywhere.
Models of the zoo that were tried; those on which the verb found what it finds on TensorFlow, to a
thousandth of the largest number or four units in the last place of 16 bits (statistics, what the
new model's `predict` answers), or the same causes; the largest difference among these; seconds of
all, the first calls with all compiling, and over TensorFlow's. Below that, seconds for whole
networks at 96 x 96, and how far each model lies from TensorFlow, in units of the largest number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnfix.numerics.tolerance import floor

from .benchmark import Benchmark, Measured, Row, Skipped, once
from .compare.environments import interpreter
from .processes import started, told
from .running import alone

#: One or two of each kind in the zoo.
MODELS = (
    "conv_bn",
    "conv_with_fused_relu",
    "depthwise",
    "separable",
    "conv_transpose",
    "conv1d",
    "low_rank_dense",
    "dense_concatenation",
    "residual",
    "inputs_in_a_list",
    "shared_bn",
    "three_deep",
    "nested_called_twice",
    "time_distributed_bn",
    "embedding_mask_zero",
    "mixed_float16",
    "mixed_bfloat16",
    "float64_global",
    "bn_renorm",
    "bn_subclass",
    "subclassed_lists_and_dicts",
    "baked_training_bn",
    "conv3d",
    "masking_lstm",
    "small_densenet",
)
ROWS = 12


VERBS = ("recalibrate", "fold", "to_group_norm", "check")


@dataclass(frozen=True)
class Options:
    environments: str = ""
    models: int = len(MODELS)
    images: int = 128
    seconds: float = 3600.0


def measure(options: Options) -> Iterator[Row | Skipped]:
    folder = Path(options.environments) if options.environments else None
    pythons = {"tensorflow": interpreter(None, folder)}
    for name in ("jax", "torch"):
        if python := interpreter(name, folder):
            pythons[name] = python
        else:
            yield Skipped(name, f"--environments names no folder with an environment {name}")
    if len(pythons) == 1:
        return
    found: dict[str, Any] = {}
    for name, python in pythons.items():
        environment = {"KERAS_BACKEND": name}
        given = (options.models, options.images, options.seconds)
        found[name] = told(started(work, *given, python=python, environment=environment))
        yield from _verbs_of(name, found[name]["models"], found["tensorflow"]["models"])
        if name != "tensorflow":
            yield from _models_of(name, found[name]["models"], found["tensorflow"]["models"])
    for name in found["tensorflow"]["networks"]:
        times = {key: each["networks"].get(name) for key, each in found.items()}
        numbers = {key: once("s", each) for key, each in times.items() if each is not None}
        yield Row({"call": name}, numbers, table="Whole networks at 96 x 96")


# --- one backend ---------------------------------------------------------------------------------


def work(models: int, images: int, seconds: float) -> dict[str, Any]:
    """What the backend of this process makes of networks, and of models for `seconds`."""
    import keras

    networks = dict(_networks(keras, images)) if images else {}
    found: dict[str, Any] = {}
    begin = time.perf_counter()
    for entry in _entries(models):
        if time.perf_counter() - begin > seconds:
            break
        found[entry.name] = _verbs(entry)
    return {"networks": networks, "models": found}


def _entries(number: int) -> list[Any]:
    import zoo

    here = {entry.name: entry for entry in zoo.MODELS}
    usable = (here[name] for name in MODELS if name in here and "keras3" in here[name].dialects)
    return list(usable)[:number]


def _verbs(entry: Any) -> dict[str, Any]:
    """By verb, seconds and what it found, or the error that it raised."""
    import bnfix

    def statistics(model: Any, x: Any) -> Any:
        bnfix.recalibrate(model, x, min_count=1, verbose=0)
        return [w.numpy() for w in model.weights if w.name.startswith("moving_")]

    def outputs(change: Callable[..., Any]) -> Callable[..., Any]:
        def run(model: Any, x: Any) -> Any:
            made = change(model, x)
            return lambda: _flat(made.predict(x, batch_size=ROWS, verbose=0))

        return run

    verbs = {
        "recalibrate": statistics,
        "fold": outputs(lambda model, x: bnfix.fold(model, x=x)),
        "to_group_norm": outputs(lambda model, x: bnfix.to_group_norm(model, x, verbose=0)),
        "check": lambda model, x: sorted(str(f.cause) for f in bnfix.check(model, x).faults),
    }
    return {name: _timed(entry, verb) for name, verb in verbs.items()}


def _timed(entry: Any, verb: Callable[..., Any]) -> dict[str, Any]:
    import zoo

    from bnfix.adapters.choose import adapter_of

    model = zoo.build(entry, "keras3")
    dtype = adapter_of(model).coarsest_dtype(model)
    _same_weights(model)
    x = zoo.inputs_for(model, rows=ROWS)
    begin = time.perf_counter()
    try:
        made = verb(model, x)
        seconds = time.perf_counter() - begin
        made = made() if callable(made) else made
    except Exception as error:
        return {"error": type(error).__name__}
    told = made if made and isinstance(made[0], str) else [np.ravel(a).tolist() for a in made]
    return {"seconds": seconds, "found": told, "alike": max(1e-3, floor(dtype))}


def _same_weights(model: Any) -> None:
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if "float" not in str(weight.dtype):
            continue
        values = generator.normal(0, 0.3, weight.shape)
        positive = any(word in weight.name for word in ("variance", "stddev", "gamma"))
        weight.assign(0.5 + np.abs(values) if positive else values)


def _flat(structure: Any) -> list[Any]:
    if isinstance(structure, dict):
        structure = [structure[key] for key in sorted(structure)]
    if isinstance(structure, (list, tuple)):
        return [leaf for part in structure for leaf in _flat(part)]
    return [np.asarray(structure, np.float64)]


def _networks(keras: Any, images: int) -> Any:
    """Name and seconds of what is compared on whole networks at 96 x 96."""
    import bnfix

    x = np.random.default_rng(0).random((images, 96, 96, 3), np.float32)

    def network(name: str) -> Any:
        keras.utils.set_random_seed(0)
        return getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3))

    def timed(work: Callable[[], Any]) -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    model = network("ResNet50")
    run = lambda: model.predict(x, batch_size=32, verbose=0)  # noqa: E731
    run()
    yield "predict", min(timed(run) for _ in range(2))
    for turn in ("first", "second"):
        yield (
            f"recalibrate, {turn} call",
            timed(lambda: bnfix.recalibrate(model, x, batch_size=32, verbose=0)),
        )
    few = x[: images // 2]
    yield (
        "recalibrate, streaming",
        timed(lambda: bnfix.recalibrate(model, few, method="streaming", verbose=0)),
    )
    small = network("MobileNetV2")
    yield "check(training=True), MobileNetV2", timed(lambda: bnfix.check(small, x, training=True))
    yield "to_group_norm", timed(lambda: bnfix.to_group_norm(model, few, verbose=0))


# --- all of them ---------------------------------------------------------------------------------


def _verbs_of(backend: str, ours: dict[str, Any], wanted: dict[str, Any]) -> Iterator[Row]:
    for verb in VERBS:
        pairs = {
            name: (each[verb], wanted[name][verb]) for name, each in ours.items() if name in wanted
        }
        ran = [pair for pair in pairs.values() if all("found" in one for one in pair)]
        apart = {name: _apart(*pair) for name, pair in pairs.items()}
        equal = {
            name: gap
            for name, gap in apart.items()
            if gap is not None and gap <= pairs[name][0].get("alike", 0)
        }
        here, there = (once("s", sum(pair[i]["seconds"] for pair in ran)) for i in (0, 1))
        numbers: dict[str, Measured] = {
            "models": once("count", len(pairs)),
            "alike": once("count", len(equal)),
            "largest difference": once("of the largest", max(equal.values(), default=0.0)),
            "time": here,
        }
        if there.median:
            numbers["/ TensorFlow"] = here / there
        others = "; ".join(
            f"{name}: {pairs[name][0].get('error', apart[name])}"
            for name in sorted(apart.keys() - equal.keys())
        )
        yield Row({"backend": backend, "verb": verb}, numbers, {"not alike": others})


def _models_of(backend: str, ours: dict[str, Any], wanted: dict[str, Any]) -> Iterator[Row]:
    for name, each in ours.items():
        if name not in wanted:
            continue
        gaps = {verb: _apart(each[verb], wanted[name][verb]) for verb in VERBS}
        numbers = {
            verb: once("of the largest", gap) for verb, gap in gaps.items() if gap is not None
        }
        seconds = sum(each[verb].get("seconds", 0.0) for verb in VERBS)
        errors = (f"{verb}: {each[verb].get('error', 'differs')}" for verb in gaps.keys() - numbers)
        yield Row(
            {"backend": backend, "model": name},
            {**numbers, "time": once("s", seconds)},
            {"not compared": "; ".join(errors)},
            table="Model by model",
        )


def _apart(ours: dict[str, Any], theirs: dict[str, Any]) -> float | None:
    """Largest difference in units of the largest value; 0 for the same error, None for another."""
    if "error" in ours or "error" in theirs:
        return 0.0 if ours.get("error") == theirs.get("error") else None
    if [type(one) for one in ours["found"]] != [type(one) for one in theirs["found"]]:
        return None
    if any(isinstance(one, str) for one in ours["found"]):
        return 0.0 if ours["found"] == theirs["found"] else None
    gaps = [0.0]
    for one, other in zip(ours["found"], theirs["found"], strict=True):
        a, b = np.asarray(one), np.asarray(other)
        if a.shape != b.shape:
            return None
        gaps.append(
            float(np.max(np.abs(a - b), initial=0)) / (float(np.max(np.abs(b), initial=0)) or 1)
        )
    return max(gaps)


BENCHMARK = Benchmark(
    "backends", __doc__, measure, full=Options(), quick=Options(models=1, images=0)
)

if __name__ == "__main__":
    alone(BENCHMARK)
