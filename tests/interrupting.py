"""Stop a call of bnfix at any line of its own: by Ctrl-C, or as if memory had run out."""

import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import bnfix

PACKAGE = str(Path(bnfix.__file__).parent)
#: Not within: it is what answers an interruption, and Ctrl-C waits for it.
RESTORING = str(Path(PACKAGE) / "restoring.py")

Line = tuple[str, int]


class Lines:
    """Counts the lines of bnfix that this thread runs while it is on, and acts at one of them."""

    def __init__(self, at: int | None = None, act: Callable[[], None] | None = None) -> None:
        self.at, self.act = at, act
        self.seen: list[Line] = []

    def __enter__(self) -> "Lines":
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        file = frame.f_code.co_filename
        return self._line if file.startswith(PACKAGE) and file != RESTORING else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self.seen.append((frame.f_code.co_filename, frame.f_lineno))
            if self.act and self.at is not None and len(self.seen) >= self.at:
                if self.act is lack_memory and _is_restoring(frame):
                    return self._line  # at the next line that is not putting something back
                act, self.act = self.act, None
                act()
        return self._line


def _is_restoring(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == RESTORING and frame.f_code.co_name == "put_back":
            return True
        frame = frame.f_back
    return False


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def lack_memory() -> None:
    raise MemoryError


def moments(lines: list[Line], number: int, seed: int) -> list[int]:
    """Positions in `lines`: half of them at any time, half in any place that the code has."""
    chance = random.Random(seed)
    places: dict[Line, list[int]] = {}
    for position, line in enumerate(lines, 1):
        places.setdefault(line, []).append(position)
    every = list(places.values())
    return [
        chance.randint(1, len(lines)) if turn % 2 else chance.choice(chance.choice(every))
        for turn in range(number)
    ]
