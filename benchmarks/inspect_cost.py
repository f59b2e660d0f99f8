"""What does it cost to look into a model file, beside importing TensorFlow and opening it?

    python benchmarks/inspect_cost.py --network ResNet50

Whole processes are timed, from nothing to the printed report, by turns; and how much memory each
took at most.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import bnfix

INSPECT = "import sys, bnfix; print(bnfix.inspect(sys.argv[1]))"
LOAD = "import sys, bnfix; bnfix.load(sys.argv[1])"
IMPORT = "import numpy, h5py"
#: Not getrusage, which tells of the process that started this one as well.
PEAK = "; print(next(s.split()[1] for s in open('/proc/self/status') if 'VmHWM' in s))"


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    print(f"{'file':<18}{'numpy, h5py':>13}{'inspect':>10}{'load':>9}{'memory':>12}")
    with tempfile.TemporaryDirectory() as folder:
        model = getattr(K.applications, options.network)(weights=None)
        for suffix in (".h5", ".keras"):
            path = Path(folder) / f"{options.network}{suffix}"
            bnfix.save(model, path)
            times: dict[str, list[float]] = {IMPORT: [], INSPECT: [], LOAD: []}
            memory = 0
            for _ in range(options.repeats):
                for code, found in times.items():
                    seconds, kilobytes = timed(code, path)
                    found.append(seconds)
                    memory = kilobytes if code is INSPECT else memory
            least, looked, opened = (statistics.median(found) for found in times.values())
            print(
                f"{path.name:<18}{least:>11.2f} s{looked:>8.2f} s{opened:>7.1f} s"
                f"{memory / 1024:>8.0f} MiB"
            )


def timed(code: str, path: Path) -> tuple[float, int]:
    """Seconds of a process that runs `code`, and the kilobytes that it took."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + PEAK, str(path)], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - begin, int(done.stdout.split()[-1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="ResNet50")
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
