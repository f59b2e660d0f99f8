"""What can go wrong, each kind of refusal under a name of its own.

Every message says where, what was seen, what is required, what to do, and what state things are in.
"""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path
from typing import Any


class BnfixError(Exception):
    """Base of all errors that bnfix raises on purpose.

    Attributes:
        path: Full path of the layer concerned (`"encoder/stage2/bn3"`), or None.
        advises: Names of arguments that the message speaks of as a way out.
    """

    def __init__(
        self, message: str, *, path: str | None = None, advises: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.path, self.advises = path, advises


class UnsupportedModelError(BnfixError):
    """The object is not a model that the operation accepts."""


class DataError(BnfixError):
    """The data does not fit the model, or is empty, endless or not finite."""


class StatisticsError(BnfixError):
    """Statistics cannot be computed: too few values, or some that are not finite."""


class ModelError(BnfixError):
    """The model itself fails when it is run; the error that it raised is the cause."""


class OptionError(BnfixError):
    """An argument is none of the values that it may have, or does not go with another."""


class Incomparable(BnfixError):
    """A model gives no loss to compare by; it never leaves bnfix."""


class ResourceError(BnfixError):
    """Memory or disk space does not suffice for what was asked."""


class VerificationError(BnfixError):
    """A result failed its own proof and was withheld."""


class FileError(BnfixError):
    """A file cannot be read, opened or written: damaged, of another kind, or code is missing."""


class UnsafeFileError(FileError):
    """Opening a file would run code that it brings along or names."""


class WorkerError(BnfixError):
    """Another process of a distributed job failed, is gone, or does something else.

    Attributes:
        kind: Name of the class of error that the other process raised; None if it raised none.
    """

    def __init__(self, message: str, *, kind: str | None = None, path: str | None = None) -> None:
        super().__init__(message, path=path)
        self.kind = kind


class BnfixWarning(UserWarning):
    """Something that was asked for was not done, or is worth less than it looks."""


class BatchDependenceError(BnfixError, AssertionError):
    """A model that should be batch-invariant is not.

    Attributes:
        report: The `CheckReport`; pickling makes an error of its message, and adds this later.
    """

    def __init__(self, message: str, *, report: Any = None, path: str | None = None) -> None:
        super().__init__(message, path=path)
        self.report = report


def disk_is_full(error: BaseException, folder: Path) -> bool:
    """Whether `error`, raised while something was written to `folder`, comes of a lack of space.

    HDF5 tells no number of the system's when it closes a file, but then nothing is left.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen = seen.__cause__ or seen.__context__
    return shutil.disk_usage(folder).free < _NOTHING_LEFT


_NOTHING_LEFT = 1 << 12


def gist(error: BaseException) -> str:
    """Kind and last line of a foreign error that says something, without a full stop.

    Keras puts calls before it and arguments behind, TensorFlow a count of what came of it.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.split(r"(?:Call a|A)rguments received by", text)[0]
    lines = [line.strip() for line in text.splitlines() if not _SAYS_NOTHING.match(line)]
    said = lines[-1][:_GIST].rstrip(".") if lines else ""
    kind = type(error).__name__
    return said if said.startswith(kind) else f"{kind}: {said}".rstrip(": ")


_GIST = 300

#: Empty lines, and how TensorFlow ends the message of compiled code.
_SAYS_NOTHING = re.compile(
    r"\s*$|\d+ (root error|successful op|derived error)|\s*\[\[|\s*\(\d+\) CANCELLED"
)
