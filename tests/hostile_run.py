"""Run `inspect`, an edit and `load` over a folder of hostile files, in a process of its own.

    python hostile_run.py FOLDER

Prints a line of JSON for each file and operation: what came of it, how long that took, and by how
much the process grew at most. Memory is limited, so that whoever takes too much fails.
"""

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import bnfix
from bnfix.adapters import kerases
from bnfix.files.container import Format, format_of

MEMORY = 2 << 30


def peak() -> int:
    """The largest size of this process since `forget_peak`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if "VmHWM" in line)) * 1024


def forget_peak() -> int:
    """Begin to measure anew; the size now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def told(operation: str, path: Path, act: Callable[[], object]) -> None:
    """Do it and print what came of it."""
    before, begin = forget_peak(), time.perf_counter()
    result = {"file": path.name, "operation": operation, "error": None, "message": ""}
    try:
        act()
    except BaseException as error:  # a process that ends would hide the others
        result |= {"error": type(error).__name__, "message": str(error)}
        result["own"] = isinstance(error, bnfix.BnfixError)
    seconds, grown = time.perf_counter() - begin, peak() - before
    sys.stdout.write(json.dumps({**result, "seconds": seconds, "grown": grown}) + "\n")
    sys.stdout.flush()


def needs_tensorflow(path: Path) -> bool:
    try:
        return format_of(path)[1] is Format.SAVED_MODEL
    except bnfix.BnfixError:
        return False


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    files = sorted(path for path in folder.iterdir() if path.name != "elsewhere.bin")
    light = [path for path in files if not needs_tensorflow(path)]
    _ = bnfix.inspect, bnfix.repair_file, bnfix.load  # what importing takes is not the file's doing
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    for path in light:
        told("inspect", path, lambda path=path: bnfix.inspect(path))
        out = folder.parent / "out" / path.name
        told("edit", path, lambda path=path, out=out: bnfix.repair_file(path, out, freeze=True))
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    bnfix.check  # noqa: B018 - so does this, and it brings TensorFlow along
    for root in filter(kerases.is_installed, kerases.ROOTS):
        __import__(root)
    for path in files:
        if path not in light:
            told("inspect", path, lambda path=path: bnfix.inspect(path))
        told("load", path, lambda path=path: bnfix.load(path))
    sys.stdout.write(json.dumps({"done": len(files), "cwd": os.listdir()}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
