"""Do the tests notice when a line of bnfix is wrong?

Each mutant is bnfix with one small change, made by an operator of cosmic-ray. The tests that run
the changed line are run on it, cheapest first; a mutant that none of them fails on has survived:
either it computes the same, or a test is missing.

TensorFlow and both Kerases are imported once. Everything else happens in forks, which is safe as
long as nothing was computed before.

    .venv/bin/pip install -q -e ".[test]" cosmic-ray coverage
    .venv/bin/python benchmarks/mutants.py bnfix/numerics --tests tests/test_moments.py
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutation import PROJECT, Mutant, mutants_of


class Copy:
    """bnfix in a folder of its own, of which one file at a time is changed."""

    def __init__(self, folder: Path) -> None:
        import compileall

        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / "bnfix", folder / "bnfix", ignore=ignored)
        compileall.compile_dir(folder / "bnfix", quiet=1)

    @contextlib.contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        file = self.folder / mutant.file
        kept = file.read_text("utf-8")
        # Compiled files are told apart by times in whole seconds.
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            compiled.unlink()
        file.write_text(mutant.text or "", "utf-8")
        try:
            yield
        finally:
            file.write_text(kept, "utf-8")


@dataclass(frozen=True)
class Coverage:
    """Which tests run which lines, and how long each takes."""

    lines: dict[str, dict[str, list[str]]]  # file: line: tests
    seconds: dict[str, float]

    def tests(self, mutant: Mutant, seconds: float) -> list[str]:
        """Those that run the line, cheapest first, for so long together; at least one.

        What runs on import, or rewritten by TensorFlow, belongs to no test: those of the file.
        """
        by_line = self.lines.get(mutant.file, {})
        found = by_line.get(str(mutant.line)) or {t for tests in by_line.values() for t in tests}
        chosen: list[str] = []
        left = seconds
        for test in sorted(found, key=lambda test: (self.seconds[test], test)):
            if chosen and (left := left - self.seconds[test]) < 0:
                break
            chosen.append(test)
        return chosen


class _Measuring:
    """A plugin of pytest: tells coverage which test runs, and takes its time."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.add(report.nodeid)


def measured(copy: Copy, tests: list[str], names: list[str], into: Path) -> Coverage:
    """`tests`, arguments of pytest, run once on bnfix as it is; those that fail are left out."""

    def work() -> int:
        import coverage
        import pytest

        for name in names:  # what runs on import would count as the first test's that needs it
            importlib.import_module(name.removesuffix(".py").replace("/", "."))
        cover = coverage.Coverage(data_file=None, include=[str(copy.folder / n) for n in names])
        plugin = _Measuring(cover)
        cover.start()
        pytest.main([*_PYTEST, *tests], plugins=[plugin])
        cover.stop()
        data = cover.get_data()
        lines: dict[str, dict[str, list[str]]] = {}
        for file in data.measured_files():
            found = data.contexts_by_lineno(file).items()
            by_line = {
                line: [t for t in tests if t and t not in plugin.failed] for line, tests in found
            }
            lines[os.path.relpath(file, copy.folder)] = {k: v for k, v in by_line.items() if v}
        into.write_text(json.dumps({"lines": lines, "seconds": plugin.seconds}), "utf-8")
        return 0

    if forked(work, copy, 3600, quiet=False) != 0:
        raise SystemExit("What the tests run could not be measured.")
    return Coverage(**json.loads(into.read_text("utf-8")))


_PYTEST = ("-n", "0", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no")


def survives(copy: Copy, mutant: Mutant, tests: list[str], seconds: float) -> bool:
    """Whether all `tests` pass; what hangs does not."""

    def work() -> int:
        import pytest

        os.environ["HYPOTHESIS_PROFILE"] = "unshrunk"  # that a law fails is enough to know
        return pytest.main([*_PYTEST, "-x", *tests])

    with copy.changed(mutant):
        return forked(work, copy, 30 + 5 * seconds) == 0


def forked(work: Callable[[], int], copy: Copy, seconds: float, *, quiet: bool = True) -> int:
    """What `work` returns, from a process that sees the copy; -9 if it takes longer."""
    child = os.fork()
    if not child:
        status = 70
        try:
            os.setsid()
            if quiet:
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, 1), os.dup2(nowhere, 2)
            sys.path.insert(0, str(copy.folder))
            sys.dont_write_bytecode = True
            os.environ |= {"PYTHONPATH": str(copy.folder), "PYTHONDONTWRITEBYTECODE": "1"}
            status = int(work())
        finally:
            os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def drawn(mutants: list[Mutant], count: int | None, seed: int) -> list[Mutant]:
    """`count` of them, from every file in proportion to what it has."""
    if count is None or count >= len(mutants):
        return mutants
    shuffled = random.Random(seed).sample(mutants, len(mutants))
    chosen = {mutant.key for at, mutant in enumerate(sorted(shuffled, key=lambda m: m.file))
              if (at * count) // len(mutants) != ((at + 1) * count) // len(mutants)}  # fmt: skip
    return [mutant for mutant in mutants if mutant.key in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="+", help="files of bnfix, or folders")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="as for pytest")
    parser.add_argument("-k", metavar="EXPRESSION", help="which of them: as for pytest")
    parser.add_argument(
        "--coverage",
        type=Path,
        help="file of which tests run which lines; read if it is there, in place of --tests",
    )
    parser.add_argument("--sample", type=int, help="so many mutants of all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--seconds", type=float, default=20, help="of tests for each mutant")
    parser.add_argument("--only", nargs="+", help="mutants as they are printed, in part")
    given = parser.parse_args()

    found = [Path(room) for room in given.rooms]
    files = [f for room in found for f in (sorted(room.rglob("*.py")) if room.is_dir() else [room])]
    names = [str(file.resolve().relative_to(PROJECT)) for file in files]
    mutants = drawn([m for name in names for m in mutants_of(name)], given.sample, given.seed)
    if given.only:
        mutants = [mutant for mutant in mutants if any(part in mutant.key for part in given.only)]

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import hypothesis  # noqa: F401
    import keras  # noqa: F401
    import pytest  # noqa: F401
    import tensorflow  # noqa: F401
    import tf_keras  # noqa: F401  # no thread is started before something is computed

    gc.freeze()  # in every fork the collector would go through all of it
    os.chdir(PROJECT)
    run, survived = collections.Counter[str](), collections.Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Copy(Path(scratch))
        kept = given.coverage or Path(scratch) / "coverage.json"
        if kept.exists():
            coverage = Coverage(**json.loads(kept.read_text("utf-8")))
        else:
            coverage = measured(
                copy, [*given.tests, *(["-k", given.k] if given.k else [])], names, kept
            )
        for mutant in (mutant for mutant in mutants if mutant.text):
            tests = coverage.tests(mutant, given.seconds)
            run[mutant.file] += 1
            if not tests or survives(copy, mutant, tests, given.seconds):
                survived[mutant.file] += 1
                print(f"survived {mutant.key} ({len(tests)} tests)\n{mutant.change}", flush=True)
    print("\n| module | mutants | killed | survived |\n|---|--:|--:|--:|")
    for file, count in run.items():
        print(f"| {file} | {count} | {count - survived[file]} | {survived[file]} |")


if __name__ == "__main__":
    main()
