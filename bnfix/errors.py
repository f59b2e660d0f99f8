"""What can go wrong, each kind of refusal under a name of its own.

Every message says where, what was seen, what is required, what to do, and what state things are in.
"""

from __future__ import annotations

import re
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


class BnfixWarning(UserWarning):
    """Something that was asked for was not done, or is worth less than it looks."""


class BatchDependenceError(BnfixError, AssertionError):
    """A model that should be batch-invariant is not.

    Attributes:
        report: The `CheckReport`.
    """

    def __init__(self, message: str, *, report: Any, path: str | None = None) -> None:
        super().__init__(message, path=path)
        self.report = report


def gist(error: BaseException) -> str:
    """Kind and last line of a foreign error; Keras puts calls before it and arguments behind."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.split(r"(?:Call a|A)rguments received by", text)[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1][:_GIST] if lines else ""
    kind = type(error).__name__
    return said if said.startswith(kind) else f"{kind}: {said}".rstrip(": ")


_GIST = 300
