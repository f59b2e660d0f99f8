"""How is it told that bytes make no sense?"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from bnfix.errors import FileError, gist


@contextmanager
def understood(
    name: str, where: str, form: str, unreadable: tuple[type[BaseException], ...]
) -> Generator[None]:
    """What cannot be made sense of while the block runs is a fault of the file.

    Args:
        name: What messages call the file.
        where: The part of it that is read.
        form: What it should be: "a zip archive".
        unreadable: What is raised by the library that reads it.
    """
    try:
        yield
    except FileError:
        raise
    except unreadable as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None  # compiled code that is interrupted may call it its own
        raise FileError(
            f"{name}: {where} cannot be read as {form}: {gist(error)}. A whole file is required; "
            "fetch or copy it again."
        ) from error
