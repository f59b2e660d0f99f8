"""Commands in processes that have imported everything already, so that signals meet their work.

A server imports what a command needs and runs none of it; each command is a fork of the server.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import bnfix

Send = Callable[[int], None]
Disturb = Callable[[Send], None]

_SERVER = """
import json, os, shlex, signal, sys
import keras, tensorflow, tf_keras  # no thread is started before something is computed
import bnfix
from bnfix.cli import main
for name in bnfix.__all__:
    getattr(bnfix, name)
print("ready", flush=True)
for order in sys.stdin:
    line, prepare = json.loads(order)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests run under
        os.dup2(os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        exec(prepare)
        os._exit(main(shlex.split(line)))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """Runs commands one after the other, each in a fork; stderr of the last is in `stderr.txt`."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(bnfix.__file__).parents[1])}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder = folder
        assert self._told() == "ready"

    def run(self, line: str, disturb: Disturb | None = None, *, prepare: str = "") -> int:
        """The exit status of `line`; minus the number of the signal that ended it.

        Args:
            line: What follows `bnfix`.
            disturb: Called beside it, with a function that sends it a signal.
            prepare: Python to run before, in the same process.
        """
        self._process.stdin.write(json.dumps([line, prepare]) + "\n")
        self._process.stdin.flush()
        child = int(self._told())
        ended = threading.Event()

        def send(number: int) -> None:
            if not ended.is_set():
                with contextlib.suppress(ProcessLookupError):  # ended just now
                    os.kill(child, number)

        if disturb is not None:
            beside = threading.Thread(target=disturb, args=(send,))
            beside.start()
        status = int(self._told())
        ended.set()
        if disturb is not None:
            beside.join()
        return status

    def said(self) -> str:
        return (self.folder / "stderr.txt").read_text("utf-8")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)

    def _told(self) -> str:
        return self._process.stdout.readline().strip()


def after(seconds: float, number: int) -> Disturb:
    """Sends signal `number` so long after the start."""

    def disturb(send: Send) -> None:
        time.sleep(seconds)
        send(number)

    return disturb


def once_writing(folder: Path, seconds: float, number: int = signal.SIGKILL) -> Disturb:
    """Sends signal `number` so long after something in `folder` has changed."""

    def disturb(send: Send) -> None:
        before, deadline = seen(folder), time.monotonic() + 30
        while seen(folder) == before and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(seconds)
        send(number)

    return disturb


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every entry but the server's own."""
    entries = [entry for entry in os.scandir(folder) if entry.name != "stderr.txt"]
    found = {}
    for entry in entries:
        try:
            stat = entry.stat()
            found[entry.name] = (stat.st_size, stat.st_mtime_ns)
        except FileNotFoundError:  # gone meanwhile
            found[entry.name] = (-1, -1)
    return found


def real_command(line: str, folder: Path) -> subprocess.Popen[str]:
    """`python -m bnfix` as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(bnfix.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "bnfix", *shlex.split(line)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, Ctrl-C is ignored by whatever they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
