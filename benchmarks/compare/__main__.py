"""Runs the comparison, and renders it.

    python -m benchmarks.compare --environments DIR --setup      # installs the opponents
    python -m benchmarks.compare --environments DIR
    python -m benchmarks.compare --environments DIR --only kito mct
    python -m benchmarks.compare --render

What is not installed is skipped, and said to be. `--only` runs some again, and keeps the other
results.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from . import RESULTS, kept, opponents, prepare, render, running, statistics
from .environments import interpreter, set_up
from .graphs import GRAPHS


def main() -> None:
    options = _options()
    chosen = [
        importlib.import_module(f".opponents.{name}", __package__)
        for name in options.only or opponents.ALL
    ]
    if options.setup:
        set_up(chosen, options.environments)
        return
    results = {} if options.graphs else kept()
    if not options.render:
        with tempfile.TemporaryDirectory() as folder:
            for name, found in _compared(chosen, options, Path(folder)):
                results[name] = found
                if not options.graphs:
                    RESULTS.write_text(json.dumps(results, indent=0, sort_keys=True) + "\n")
    if options.graphs:
        print(render.summary(render.columns(results)))
    else:
        render.everything(results)


def _compared(chosen: Any, options: Any, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is kept under which name, one after the other."""
    import keras

    graphs = [GRAPHS[name] for name in options.graphs or GRAPHS]
    depths = {graph.name: prepare.write(keras, graph, folder) for graph in graphs}
    for opponent in chosen:
        python = interpreter(opponent.ENVIRONMENT, options.environments)
        name = opponent.__name__.rpartition(".")[2]
        if python is None:
            print(f"{opponent.TITLE}: not installed, skipped")
            continue
        for framework in opponent.FRAMEWORKS:
            print(f"{opponent.TITLE}, {framework}", flush=True)
            found = running.results(opponent, python, framework, folder, depths)
            yield f"{name} {framework}", found
    if not options.only and not options.graphs:
        yield "statistics", statistics.measured(keras, options.environments, folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--environments", type=Path, metavar="DIR", help="of the opponents")
    parser.add_argument("--setup", action="store_true", help="make those environments, and end")
    parser.add_argument("--render", action="store_true", help="make tables and picture only")
    parser.add_argument("--only", nargs="+", choices=opponents.ALL, metavar="OPPONENT")
    parser.add_argument(
        "--graphs",
        nargs="+",
        choices=list(GRAPHS),
        metavar="GRAPH",
        help="keeps and renders nothing",
    )
    options = parser.parse_args()
    if options.setup and options.environments is None:
        parser.error("--setup needs --environments DIR, where they go")
    return options


if __name__ == "__main__":
    main()
