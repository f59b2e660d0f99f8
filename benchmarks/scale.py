"""How do costs grow: with images, depth, width, resolution, workers, and the size of a file?

    python -m benchmarks.scale --curves images depth

Each curve in one run, its points by turns, on plain chains of 3x3 convolutions with a BN and a ReLU
each; every round gets new models, so that tracing is included. Widths are squared and resolutions
are pixels, since that is what convolutions cost. The bend is what the last point takes over what
the line through the others gives there: 15 % at most. Workers share this machine's cores, and hold
a part of the same images each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import bnfix

from .benchmark import Benchmark, Measured, Row, Target, once
from .memory import MIB
from .networks import chain, heavy, images, keras
from .running import alone
from .timing import Fresh, interleaved
from .workers_cost import slowest, together


class Curve(NamedTuple):
    """What is counted, and what costs: `points` are told as they are, and lie at `at(point)`."""

    title: str
    unit: str
    measure: Callable[[tuple[int, ...], int], dict[int, Measured]]
    at: Callable[[int], float] = float


@dataclass(frozen=True)
class Options:
    curves: tuple[str, ...] = (
        *("images", "depth", "width", "resolution", "fold", "inspect", "load", "workers"),
    )
    images: tuple[int, ...] = (64, 128, 256, 512, 1024)
    depth: tuple[int, ...] = (20, 40, 80, 160, 320)
    width: tuple[int, ...] = (16, 32, 64, 96, 128)
    resolution: tuple[int, ...] = (16, 32, 64, 96, 128)
    fold: tuple[int, ...] = (20, 40, 80, 160, 320)
    inspect: tuple[int, ...] = (128, 256, 512, 768, 1024)
    load: tuple[int, ...] = (128, 256, 512, 768, 1024)
    workers: tuple[int, ...] = (1, 2, 3, 4)
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    bends: list[Row] = []
    for name in options.curves:
        curve = CURVES[name]
        points: tuple[int, ...] = getattr(options, name)
        found = curve.measure(points, options.repeats)
        for point, time in found.items():
            label = {curve.unit: str(point)}
            yield Row(label, {"time": time}, table=curve.title, at=curve.at(point))
        places = [curve.at(point) for point in found]
        bent = bend(places, [each.median for each in found.values()])
        bends.append(Row({"curve": curve.title}, {"bend": once("%", bent)}, table="Bends"))
    yield from bends


def bend(places: list[float], seconds: list[float]) -> float:
    """Per cent by which the last point lies above the line through the others, below 0: under it.

    Each point counts by its own time, for the short times are to be as near to it as the long.
    """
    *at, last = places
    *taken, longest = seconds
    slope, start = np.polyfit(at, taken, 1, w=1 / np.asarray(taken))
    return 100 * float(longest / (start + slope * last) - 1)


def _turns(
    points: tuple[int, ...],
    repeats: int,
    make: Callable[[int], Any],
    run: Callable[[int, Any], Any],
) -> dict[int, Measured]:
    calls = {str(point): Fresh(partial(make, point), partial(run, point)) for point in points}
    found = interleaved(calls, repeats, warm_up=1)
    return {int(name): time for name, time in found.items()}


def _recalibrated(model: Any, x: Any) -> None:
    bnfix.recalibrate(model, x, verbose=0)


def _images(points: tuple[int, ...], repeats: int) -> dict[int, Measured]:
    x = images(max(points), 32)
    return _turns(
        points, repeats, lambda _: chain(_K(), 20), lambda n, model: _recalibrated(model, x[:n])
    )


def _depth(points: tuple[int, ...], repeats: int) -> dict[int, Measured]:
    x = images(64, 32)
    make = partial(chain, _K())
    return _turns(points, repeats, make, lambda _, model: _recalibrated(model, x))


def _width(points: tuple[int, ...], repeats: int) -> dict[int, Measured]:
    x = images(128, 16)

    def make(channels: int) -> Any:
        return chain(_K(), 8, channels=channels, size=16)

    return _turns(points, repeats, make, lambda _, model: _recalibrated(model, x))


def _resolution(points: tuple[int, ...], repeats: int) -> dict[int, Measured]:
    x = {size: images(64, size) for size in points}
    make = lambda size: chain(_K(), 8, size=size)  # noqa: E731
    return _turns(points, repeats, make, lambda size, model: _recalibrated(model, x[size]))


def _fold(points: tuple[int, ...], repeats: int) -> dict[int, Measured]:
    return _turns(points, repeats, partial(chain, _K()), lambda _, model: bnfix.fold(model))


def _file(
    points: tuple[int, ...], repeats: int, *, read: Callable[[Path], Any]
) -> dict[int, Measured]:
    """By the MiB of the file, which `points` give the channels of."""
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        files: dict[int, Path] = {}
        for channels in points:
            path = folder / f"{channels}.h5"
            bnfix.save(heavy(_K(), channels, 11), path)
            files[round(path.stat().st_size / MIB)] = path
        return _turns(tuple(files), repeats, files.__getitem__, lambda _, path: read(path))


def _workers(points: tuple[int, ...], repeats: int) -> dict[int, Measured]:
    runs: dict[int, list[Any]] = {size: [] for size in points}
    for _ in range(repeats):
        for size, found in runs.items():
            found.append(together("ResNet50", "keras", size))
    return {size: slowest(found) for size, found in runs.items()}


def _K() -> Any:
    return keras("keras")


def _square(number: int) -> float:
    return float(number) ** 2


CURVES = {
    "images": Curve("recalibrate: images", "images", _images),
    "depth": Curve("recalibrate: depth", "BN layers", _depth),
    "width": Curve("recalibrate: width", "channels", _width, _square),
    "resolution": Curve("recalibrate: resolution", "pixels a side", _resolution, _square),
    "fold": Curve("fold: depth", "BN layers", _fold),
    "inspect": Curve("inspect: file size", "MiB", partial(_file, read=bnfix.inspect)),
    "load": Curve("load: file size", "MiB", partial(_file, read=bnfix.load)),
    "workers": Curve("recalibrate: workers", "workers", _workers),
}

BENCHMARK = Benchmark(
    "scale",
    __doc__,
    measure,
    full=Options(),
    quick=Options(
        curves=("images", "depth", "inspect"),
        images=(32, 64, 128),
        depth=(2, 4, 8),
        inspect=(16, 32, 64),
        repeats=1,
    ),
    targets=tuple(
        Target(f"{curve.title}: bend", "bend", 15.0, {"curve": curve.title})
        for curve in CURVES.values()
    ),
)

if __name__ == "__main__":
    alone(BENCHMARK)
