"""A command as it is seen on a terminal: what colours, bars and both streams leave there."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pyte

import bnfix

#: Wide enough for every line, so that none is cut in the middle of a word.
_COLUMNS, _LINES = 300, 500


def shown(command: str, folder: Path) -> str:
    """What stands on the terminal when `command`, run by a shell in `folder`, has ended."""
    raw = written(command, folder)
    screen = pyte.Screen(_COLUMNS, _LINES)
    pyte.ByteStream(screen).feed(raw)
    return "\n".join(line.rstrip() for line in screen.display).rstrip() + "\n"


def written(command: str, folder: Path) -> bytes:
    """Every byte that `command` sends to its terminal; `bnfix` in it is this one."""
    ours, theirs = pty.openpty()
    define = f'bnfix() {{ "{sys.executable}" -m bnfix "$@"; }}\n'
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
        "PYTHONPATH": str(Path(bnfix.__file__).parents[1]),
        "TERM": "xterm-256color",
        "COLUMNS": str(_COLUMNS),
    }
    running = subprocess.Popen(
        ["bash", "-c", define + command],
        cwd=folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 65536):
            pieces.append(piece)
    except OSError:  # how Linux says that the other side has ended
        pass
    os.close(ours)
    running.wait(60)
    return b"".join(pieces)
