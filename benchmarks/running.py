"""A benchmark is run: by `python -m benchmarks`, or alone by `python -m benchmarks.NAME`."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from importlib.util import find_spec
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from . import tables
from .benchmark import AnyBenchmark, Row, Skipped
from .machine import Others, machine, versions
from .results import Entry

#: The option that tells where environments lie: not what is measured, and of no interest elsewhere.
PLACE = "environments"


def run(benchmark: AnyBenchmark, options: Any, *, quick: bool) -> Entry:
    """What it measured; an error ends it, and is told beside what was measured until then."""
    began, others = time.perf_counter(), Others()
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    rows: list[Row] = []
    skipped: list[Skipped] = []
    failed = ""
    try:
        for found in _measured(benchmark, options):
            if isinstance(found, Row):
                rows.append(found)
                _tell(found)
            else:
                skipped.append(found)
                print(f"  skipped {found.what}: {found.reason}", flush=True)
    except Exception as error:  # the other benchmarks are still to be run
        failed = f"{type(error).__name__}: {error}"
        print(f"  failed: {failed}", file=sys.stderr, flush=True)
    return Entry(
        date=date,
        seconds=round(time.perf_counter() - began, 1),
        quick=quick,
        others=others.share(),
        machine=machine(),
        versions=versions(),
        options={name: value for name, value in asdict(options).items() if name != PLACE},
        rows=tuple(rows),
        skipped=tuple(skipped),
        failed=failed,
    )


def alone(benchmark: AnyBenchmark) -> None:
    """The command of a single benchmark: its options, and its table."""
    parser = argparse.ArgumentParser(description=benchmark.question)
    parser.add_argument("--quick", action="store_true", help="small: does it run at all?")
    for option in fields(benchmark.full):
        default = getattr(benchmark.full, option.name)
        several = isinstance(default, tuple)
        kind = type(default[0] if several else default)
        parser.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=kind,
            nargs="+" if several else None,
            help=f"default: {' '.join(map(str, default)) if several else default}",
        )
    given = vars(parser.parse_args())
    quick = given.pop("quick")
    made = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    options = replace(benchmark.quick if quick else benchmark.full, **made)
    entry = run(benchmark, options, quick=quick or bool(made.keys() - {PLACE}))
    print(tables.section(benchmark, entry))
    sys.exit(1 if entry.failed else 0)


def _measured(benchmark: AnyBenchmark, options: Any) -> Iterator[Row | Skipped]:
    """The rows, in the Kerases that are installed."""
    if missing := [name for name in benchmark.requires if find_spec(name) is None]:
        yield Skipped(benchmark.name, f"{', '.join(missing)} is not installed")
        return
    kerases = getattr(options, "kerases", None)
    if kerases is not None:
        here = tuple(name for name in kerases if find_spec(name) is not None)
        for name in kerases:
            if name not in here:
                yield Skipped(f"{benchmark.name} in {name}", "it is not installed")
        options = replace(options, kerases=here)
    yield from benchmark.measure(options)


def _tell(row: Row) -> None:
    numbers = (
        f"{name} {tables.shown(number)} {number.unit}" for name, number in row.numbers.items()
    )
    print("  " + "; ".join([", ".join(row.labels.values()), *numbers]), flush=True)
