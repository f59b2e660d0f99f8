"""The `bnfix` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import bnfix
from bnfix.errors import BnfixError

#: Exit status of a refusal that bnfix itself explains.
_REFUSED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's own); its exit status."""
    # TensorFlow reads it when it is imported, and fills the terminal otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help()
        return 0
    try:
        arguments.run(arguments)
    except BnfixError as error:
        sys.stderr.write(f"bnfix: {error}\n")
        return _REFUSED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bnfix", description=bnfix.__doc__)
    parser.add_argument("--version", action="version", version=f"bnfix {bnfix.__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, (add_options, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        add_options(command)
        command.set_defaults(run=run)
    return parser


def _demo_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        type=Path,
        default=Path("bnfix-demo.png"),
        help="the picture (default: %(default)s)",
    )
    command.add_argument("--epochs", type=int, default=2, help="default: %(default)s")
    command.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    command.add_argument(
        "--keras", choices=("keras", "tf_keras"), default="keras", help="default: %(default)s"
    )


def _demo(arguments: argparse.Namespace) -> None:
    """train on real digits, see predict fail, repair it, and draw a picture"""
    from bnfix.demo import run, show

    result = run(epochs=arguments.epochs, seed=arguments.seed, keras=arguments.keras)
    show(result, arguments.out)


_Options = Callable[[argparse.ArgumentParser], None]
_Run = Callable[[argparse.Namespace], None]
_COMMANDS: dict[str, tuple[_Options, _Run]] = {"demo": (_demo_options, _demo)}
