"""Kill `repair_file(FILE, FILE, overwrite=True)` at random moments and tell what is in FILE then.

    python kill_run.py FILE KILLS [in_place]

Each kill is of a child that has been forked when everything was imported, so that the moments fall
into the work itself. `in_place` is a wrong `repair_file`, which writes where it reads.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import bnfix
from bnfix import replacing


def in_place(source, target):
    """What must not stand for `os.replace`."""
    with open(source, "rb") as old, open(target, "wb", buffering=0) as new:
        while piece := old.read(512):
            new.write(piece)
            time.sleep(1e-5)  # so that kills fall into it however busy the machine is


def repaired(file: Path) -> None:
    bnfix.repair_file(file, file, overwrite=True)


def killed_after(seconds: float | None, file: Path) -> None:
    """Repair in a child, which is killed, or waited for if there is no time to kill it at."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            repaired(file)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(file: Path, kills: int, mode: str) -> None:
    old = file.read_bytes()
    repaired(file)  # imports what is needed
    file.write_bytes(old)
    if mode == "in_place":
        replacing.os.replace = in_place
    begin = time.perf_counter()
    killed_after(None, file)
    usual = time.perf_counter() - begin
    new = file.read_bytes()
    chance, seen = random.Random(0), Counter()
    for _ in range(kills):
        file.write_bytes(old)
        killed_after(chance.uniform(0, 1.5 * usual), file)
        found = file.read_bytes()
        seen["old" if found == old else "new" if found == new else "torn"] += 1
        for rest in file.parent.glob(f".{file.name}.*"):
            seen["drafts"] += 1
            shutil.rmtree(rest)
    file.write_bytes(old)
    assert old != new
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
