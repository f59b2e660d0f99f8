"""Which commands does `bnfix` have, and with which status does it end?"""

from __future__ import annotations

import platform
import traceback
from collections.abc import Iterable, Iterator, Sequence

import click

import bnfix
from bnfix.adapters import kerases
from bnfix.cli import FAILED, INTERRUPTED, REFUSED
from bnfix.cli.changing import (
    fold,
    freeze,
    recalibrate,
    repair,
    strip_augmentation,
    strip_training,
    to_group_norm,
)
from bnfix.cli.examining import check, diagnose, inspect
from bnfix.cli.quiet import interruptible, only_our_warnings, quiet_tensorflow
from bnfix.cli.showing import demo
from bnfix.errors import BnfixError
from bnfix.restoring import all_or_nothing

_STATUS = """\b
Exit status:
  0    done; inspect, check, diagnose, repair: nothing is wrong with the model
  1    inspect, check, diagnose: something is; repair: something is left
  2    the command line is not as it should be
  3    it cannot be done; the reason is on stderr
  4    an error that bnfix did not foresee; its traceback is on stderr
  130  interrupted with Ctrl-C
"""


def _tell_versions(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """What a report of a bug has to say first; Keras is imported to learn its backend."""
    if not asked:
        return
    with quiet_tensorflow():
        found = kerases.versions()
    told = {"bnfix": bnfix.__version__, **found, "python": platform.python_version()}
    click.echo("\n".join(f"{name} {version}" for name, version in told.items()))
    context.exit()


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
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_versions,
    help="Show the versions of bnfix, Keras, its backend and TensorFlow, and exit.",
)
@click.pass_context
def group(context: click.Context) -> int:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return 0


for _command in (
    inspect, check, diagnose, repair, recalibrate, strip_training, strip_augmentation, freeze, fold,
    to_group_norm, demo,
):  # fmt: skip
    group.add_command(_command)


def run(argv: Sequence[str] | None) -> int:
    """Run the command line `argv` (by default the process's own); its exit status."""
    try:
        with only_our_warnings(), interruptible():
            return _answer(argv)
    except click.Abort as error:
        # What Click has caught; before 8.1.4 it does not call it the cause.
        caught = error.__context__
        if isinstance(caught, KeyboardInterrupt):
            return INTERRUPTED
        traceback.print_exception(caught or error)  # Click takes EOFError for Ctrl-D
        return FAILED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BnfixError as error:
        click.echo("\n".join([f"bnfix: {error}", *_options_for(error.advises)]), err=True)
        return REFUSED
    except Exception:  # a bug of bnfix: all of it is shown, to be reported
        traceback.print_exc()
        return FAILED


@all_or_nothing()  # what is refused is so before a model is written; see `output.show`
def _answer(argv: Sequence[str] | None) -> int:
    return group.main(argv, prog_name="bnfix", standalone_mode=False) or 0


#: Arguments that errors, which speak of functions, advise; and the options that stand for them.
_OPTIONS = {
    "custom_objects": ("custom_objects", "--custom FILE.py"),
    "allow_unsafe": ("allow_unsafe", "--allow-unsafe"),
    "min_count": ("min_count", "--min-count"),
    "guard": ("guard=False", "--no-guard"),
    "memory_limit": ("memory_limit", "--memory-limit"),
    "method": ("method", "--method streaming"),
}


def _options_for(arguments: Iterable[str]) -> Iterator[str]:
    for argument in arguments:
        if argument in _OPTIONS:
            advice, option = _OPTIONS[argument]
            yield f"bnfix: on the command line {advice} is {option}"
