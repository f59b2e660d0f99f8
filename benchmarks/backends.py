"""What do the verbs find on each backend of Keras 3, how far from TensorFlow, in which time?

    python benchmarks/backends.py --jax .venv-jax/bin/python --torch .venv-torch/bin/python

Each backend runs in a process of its own, by the Python of an environment that has it; one for
which none is given is left out. Weights and inputs are made by NumPy, and so the same everywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

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


def main() -> None:
    options = _options()
    if options.worker:
        _work(options)
        return
    pythons = {"tensorflow": sys.executable, "jax": options.jax, "torch": options.torch}
    found = {name: _run(name, python, options) for name, python in pythons.items() if python}
    _print_verbs(found)
    _print_networks(found)


def _run(backend: str, python: str, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        command = [python, __file__, "--worker", str(file), "--seconds", str(options.seconds)]
        command += ["--models", str(options.models), "--images", str(options.images)]
        paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        quiet = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
        subprocess.run(command, env={**os.environ, **quiet}, check=True)
        return json.loads(file.read_text())


# --- one backend ---------------------------------------------------------------------------------


def _work(options: argparse.Namespace) -> None:
    import keras

    found: dict[str, Any] = {"networks": {}, "models": {}}

    def save() -> None:
        Path(options.worker).write_text(json.dumps(found))

    if options.images:
        for name, seconds in _networks(keras, options.images):
            found["networks"][name] = seconds
            save()
    begin = time.perf_counter()
    for entry in _entries(options.models):
        if time.perf_counter() - begin > options.seconds:
            break
        found["models"][entry.name] = _verbs(entry)
        save()
    save()


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

    model = zoo.build(entry, "keras3")
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
    return {"seconds": seconds, "found": told}


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


def _print_verbs(found: dict[str, Any]) -> None:
    wanted = found["tensorflow"]["models"]
    print("| backend | verb | models | alike | largest difference | seconds | / TensorFlow |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for backend, ours in found.items():
        for verb in ("recalibrate", "fold", "to_group_norm", "check"):
            pairs = {
                name: (each[verb], wanted[name][verb])
                for name, each in ours["models"].items()
                if name in wanted
            }
            ran = [pair for pair in pairs.values() if all("found" in one for one in pair)]
            apart = {n: _apart(*pair) for n, pair in pairs.items()}
            equal = [n for n, gap in apart.items() if gap is not None and gap <= 1e-3]
            worst = max((apart[name] or 0.0 for name in equal), default=0.0)
            here, there = (sum(pair[i]["seconds"] for pair in ran) for i in (0, 1))
            ratio = here / there if there else float("nan")
            cells = f"{len(pairs)} | {len(equal)} | {worst:.1e} | {here:.1f} | {ratio:.1f}"
            print(f"| {backend} | {verb} | {cells} |")
            for name in apart.keys() - set(equal):
                print(
                    f"<!-- {backend} {verb} {name}: {pairs[name][0].get('error', apart[name])} -->"
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


def _print_networks(found: dict[str, Any]) -> None:
    names = list(found["tensorflow"]["networks"])
    if not names:
        return
    print(f"\n| seconds | {' | '.join(found)} |\n|---|{'--:|' * len(found)}")
    for name in names:
        cells = (one["networks"].get(name) for one in found.values())
        print(f"| {name} | {' | '.join('-' if c is None else f'{c:.1f}' for c in cells)} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jax", metavar="PYTHON", help="of an environment with Keras and JAX")
    parser.add_argument(
        "--torch", metavar="PYTHON", help="of an environment with Keras and PyTorch"
    )
    parser.add_argument("--models", type=int, default=len(MODELS), help="default: %(default)s")
    parser.add_argument("--images", type=int, default=128, help="0: no networks; %(default)s")
    parser.add_argument("--seconds", type=float, default=3600, help="on models, a backend")
    parser.add_argument("--worker", metavar="FILE", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
