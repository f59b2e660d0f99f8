"""The `bnfix` command."""

from __future__ import annotations

from collections.abc import Sequence

#: Exit status after Ctrl-C, as shells have it: 128 and the number of the signal.
INTERRUPTED = 130
#: How a command ends that has no answer; a wrong command line ends with Click's 2.
REFUSED, FAILED = 3, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's own); its exit status."""
    try:
        # Imported here, so that Ctrl-C is answered from the first moment on.
        from bnfix.cli.commands import run

        return run(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
