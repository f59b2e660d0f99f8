"""How bnfix compares: folding over small graphs, and statistics, against everybody else.

    python -m benchmarks.compare --environments DIR --setup

Each opponent runs in an environment of its own, since what they require contradicts each other.
The networks are described once (`graphs.py`) and built where they run (`in_keras.py`,
`in_torch.py`); one file of weights, inputs and expected outputs each goes to all. `worker.py`
runs there and tells in JSON what came of each graph; `outcomes.py` judges that here, and
`render.py` makes the tables and the picture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"


def kept() -> dict[str, Any]:
    """What came of it when it was last run: by opponent and framework, and of statistics."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
