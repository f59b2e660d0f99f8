"""Start the workers of a job on this machine, and end them whatever happens.

    python tests/workers.py KERAS SCENARIO SIZE

prints what each of them says; `workers_run.py` has the scenarios.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import zoo

HERE = Path(__file__).parent
ENOUGH = 240.0  # seconds; TensorFlow alone takes ten to start


def run(dialect, scenario, size):
    """What each worker has printed, and how many seconds all took; None for one that was killed."""
    zoo.tensorflow()
    ports = ",".join(free_ports(size))
    started = time.monotonic()
    with contextlib.ExitStack() as ended:
        jobs = [started_one(ended, [dialect, scenario, str(rank), ports]) for rank in range(size)]
        told = []
        for job in jobs:
            left = max(started + ENOUGH - time.monotonic(), 1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                # One that stands still, the last, is not waited for.
                out, err = job.communicate(timeout=left if not stopped(job) else 1)
                if job.returncode != -signal.SIGKILL:
                    assert job.returncode == 0, err[-3000:]
                    told.append([json.loads(line) for line in out.splitlines()])
        return told, time.monotonic() - started


def stopped(job):
    try:
        return Path(f"/proc/{job.pid}/stat").read_text().split(")")[1].split()[0] == "T"
    except OSError:
        return False


def started_one(ended, arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    job = subprocess.Popen(
        [sys.executable, HERE / "workers_run.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    ended.callback(job.wait)
    ended.callback(job.kill)
    return job


def free_ports(number):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [str(one.getsockname()[1]) for one in sockets]


if __name__ == "__main__":
    found, seconds = run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    for rank, lines in enumerate(found):
        for line in lines:
            sys.stdout.write(f"worker {rank}: {json.dumps(line)[:600]}\n")
    sys.stdout.write(f"{seconds:.0f} seconds\n")
