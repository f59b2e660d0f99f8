"""What do other tools that fold BNs make of small networks?

    python -m benchmarks.comparison --environments DIR

Runs `python -m benchmarks.compare`, which needs an environment for each tool and writes
docs/comparison.md; here is how often each outcome came. Statistics are against one float64 pass of
all images as a single batch: the largest error of a mean in standard deviations, the largest
relative error of a standard deviation, and seconds of the processor.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .benchmark import Benchmark, Row, Skipped, once
from .compare import kept, render
from .compare.environments import interpreter
from .compare.outcomes import Outcome
from .processes import ROOT
from .running import alone


@dataclass(frozen=True)
class Options:
    environments: str = ""


def measure(options: Options) -> Iterator[Row | Skipped]:
    if not options.environments:
        yield Skipped("other tools", "--environments names no folder that has them")
        return
    folder = Path(options.environments).resolve()
    command = [sys.executable, "-m", "benchmarks.compare", "--environments", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    results = kept()
    for opponent, title, graphs in render.columns(results):
        if interpreter(opponent.ENVIRONMENT, folder) is None:
            yield Skipped(title, "it is not installed; what is told of it is from earlier")
        yield outcomes(title, graphs)
    yield from statistics(results.get("statistics", {}))


def outcomes(title: str, graphs: dict[str, Any]) -> Row:
    counts = Counter(Outcome(told["outcome"]) for told in graphs.values())
    numbers = {
        kind.value: once("count", counts[kind]) for kind in Outcome if kind is not Outcome.NOT_THERE
    }
    of = {"of": once("count", len(graphs) - counts[Outcome.NOT_THERE])}
    return Row({"tool": title}, {**numbers, **of}, table="Networks")


def statistics(measured: dict[str, Any]) -> Iterator[Row]:
    for network, ways in measured.items():
        if network == "versions":
            continue
        for way, told in sorted(ways.items(), key=lambda item: item[1]["mean"]):
            yield Row(
                {"network": network, "way": way},
                {
                    "mean": once("sigma", told["mean"]),
                    "deviation": once("relative", told["deviation"]),
                    "processor": once("s", told["seconds"]),
                },
                table="Statistics",
            )


BENCHMARK = Benchmark("comparison", __doc__, measure, full=Options(), quick=Options())

if __name__ == "__main__":
    alone(BENCHMARK)
