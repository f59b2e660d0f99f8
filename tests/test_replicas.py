"""Models on two replicas, which get a part of each batch."""

import subprocess
import sys
from pathlib import Path

import zoo

from bnfix.errors import gist

HERE = Path(__file__).parent


def test_every_replica_has_a_row_and_every_row_a_neighbour(dialect):
    zoo.tensorflow()
    told = subprocess.run(
        [sys.executable, HERE / "replicas_run.py", dialect],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    culprit = "bn" if dialect == "tf_keras" else None
    checked = [f"2 4 {culprit}", f"8 8 {culprit}"]
    assert told.stdout.splitlines() == [*checked, "2 True", "2", "CPU:0 CPU:1 CPU:0 CPU:1", "1"]


TOLD = """Graph execution error:

Detected at node replica_1/add defined at (most recent call last):
  File "model.py", line 1, in call

2 root error(s) found.
  (0) INVALID_ARGUMENT:  Incompatible shapes: [4] vs. [0,6,6,3]
\t [[{{node replica_1/add}}]]
\t [[Identity]]
  (1) CANCELLED:  Function was cancelled before it was started
0 successful operations.
0 derived errors ignored. [Op:__inference_one_step_12]"""


def test_of_an_error_of_compiled_code_the_line_is_kept_that_says_something():
    assert "Incompatible shapes: [4] vs. [0,6,6,3]" in gist(ValueError(TOLD))
