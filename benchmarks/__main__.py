"""Runs the benchmarks, and writes what they measured as JSON, tables and pictures to a folder.

    python -m benchmarks --out FOLDER                # all of them: two hours on two cores
    python -m benchmarks --out FOLDER --quick        # do they run? 3 minutes
    python -m benchmarks --out FOLDER --only inference scale
    python -m benchmarks --write-results FOLDER      # puts it into results.json and RESULTS.md
    python -m benchmarks --list

Everything is written after each benchmark. What is run again replaces what the folder has of it,
but for a run that is worth less: one that failed, or a quick one where there is a full one.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import pictures, results, tables
from .benchmark import AnyBenchmark
from .running import PLACE, run

HERE = Path(__file__).parent
#: The cheap ones first.
NAMES = (
    "import_cost",
    "fold_memory",
    "inspect_cost",
    "small_jobs",
    "rebuild_cost",
    "check_cost",
    "fold_cost",
    "recalibrate_memory",
    "recalibrate_opened",
    "data_cost",
    "batch_invariant",
    "fold_where",
    "streaming_cost",
    "workers_cost",
    "recalibrate_accuracy",
    "group_norm_digits",
    "fold_hub",
    "scale",
    "inference",
    "group_norm_cost",
    "fold_families",
    "recalibrate_cost",
    "backends",
    "comparison",
)


def benchmarks(names: Sequence[str] = NAMES) -> list[AnyBenchmark]:
    return [importlib.import_module(f"benchmarks.{name}").BENCHMARK for name in names]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.list:
        for each in benchmarks():
            print(f"{each.name:<22}{each.question}")
        return 0
    if options.write_results:
        write_results(options.write_results, HERE)
        return 0
    chosen = [name for name in NAMES if name in (options.only or NAMES)]
    if options.quick or len(chosen) == 1:
        return run_here(
            benchmarks(chosen), options.out, quick=options.quick, place=options.environments
        )
    # A process each, so that none is measured among what another left behind.
    command = [sys.executable, "-m", "benchmarks", "--out", str(options.out)]
    command += ["--environments", options.environments, "--only"]
    ended = [subprocess.run([*command, name]).returncode for name in chosen]
    return int(any(ended))


def run_here(chosen: Sequence[AnyBenchmark], folder: Path, *, quick: bool, place: str = "") -> int:
    """1 where one failed. `place` holds the environments of benchmarks that need some."""
    status = 0
    for benchmark in chosen:
        print(f"{benchmark.name}: {benchmark.question}", flush=True)
        options = benchmark.quick if quick else benchmark.full
        if hasattr(options, PLACE):
            options = replace(options, **{PLACE: place})
        entry = run(benchmark, options, quick=quick)
        print(f"  {entry.seconds:.0f} s", flush=True)
        file = folder / "results.json"
        found = results.load(file).with_entry(benchmark.name, entry)
        results.save(found, file)
        write(benchmark, found, folder)
        status |= bool(entry.failed)
    return status


def write(benchmark: AnyBenchmark, found: results.Results, folder: Path) -> None:
    """Table, numbers and picture of `benchmark`, and the table of all."""
    entry = found.entries[benchmark.name]
    (folder / f"{benchmark.name}.csv").write_text(tables.as_csv(entry.rows), "utf-8")
    if (figure := pictures.picture(benchmark, entry)) is not None:
        figure.savefig(folder / f"{benchmark.name}.png", dpi=120)
    (folder / "RESULTS.md").write_text(tables.document(found, benchmarks()), "utf-8")


def write_results(folder: Path, kept: Path) -> None:
    """Puts what was measured into `folder` into the results of `kept`, and writes their tables."""
    file = kept / "results.json"
    found = results.load(file).with_results(results.load(folder / "results.json"))
    results.save(found, file)
    (kept / "RESULTS.md").write_text(tables.document(found, benchmarks()), "utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small sizes, 3 minutes in all")
    parser.add_argument("--out", type=Path, default=Path("measured"), metavar="FOLDER")
    parser.add_argument(
        "--environments", default="", metavar="DIR", help="of other tools, backends"
    )
    parser.add_argument("--list", action="store_true", help="names and questions, and end")
    parser.add_argument("--write-results", type=Path, metavar="FOLDER", help="which one, and end")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
