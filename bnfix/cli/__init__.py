"""The `bnfix` command: its subcommands, and the status with which it ends."""

from __future__ import annotations

import logging
import os
import traceback
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import click

import bnfix
from bnfix.cli.changing import fold, freeze, recalibrate, repair, strip_training, to_group_norm
from bnfix.cli.examining import check, diagnose
from bnfix.cli.showing import demo
from bnfix.errors import BnfixError, BnfixWarning

#: How the command ends, apart from 0 and 2 (usage), which are Click's.
REFUSED, FAILED, INTERRUPTED = 3, 4, 130

_STATUS = """\b
Exit status:
  0    done; check, diagnose and repair: nothing is wrong with the model
  1    check, diagnose, repair: something is
  2    the command line is not as it should be
  3    it cannot be done; the reason is on stderr
  4    an error that bnfix did not foresee; its traceback is on stderr
  130  interrupted with Ctrl-C
"""


class _AsListed(click.Group):
    """Commands in the order in which one comes to need them, not in that of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    "bnfix",
    cls=_AsListed,
    help=bnfix.__doc__.splitlines()[0] if bnfix.__doc__ else None,
    epilog=_STATUS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(bnfix.__version__, message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context) -> int:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return 0


for _command in (
    check, diagnose, repair, recalibrate, strip_training, freeze, fold, to_group_norm, demo
):  # fmt: skip
    group.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's own); its exit status."""
    # TensorFlow reads it when it is imported, and fills the terminal otherwise.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _only_our_warnings():
            return group.main(argv, prog_name="bnfix", standalone_mode=False) or 0
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # Click takes the end of any file for Ctrl-D
            traceback.print_exception(error.__cause__)
            return FAILED
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BnfixError as error:
        click.echo(f"bnfix: {error}", err=True)
        return REFUSED
    except Exception:
        traceback.print_exc()
        return FAILED


@contextmanager
def _only_our_warnings() -> Generator[None]:
    """What bnfix warns of becomes a line on stderr; what Keras and TensorFlow say is left out."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", BnfixWarning)
            warnings.showwarning = _show_warning
            yield
    finally:
        logging.disable(before)


def _show_warning(message: Warning | str, *_: Any) -> None:
    click.echo(f"bnfix: warning: {message}", err=True)
