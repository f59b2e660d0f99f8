"""How is a configuration read whose content is not to be trusted?

JSON can nest deeper than any reader's stack, unfold into many times its length, and give a key
twice, of which two readers may take different ones.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, cast

from bnfix.errors import FileError, gist

#: Bytes; the configuration of the largest published networks has about two million.
MAX_TEXT = 64 << 20
#: Objects, lists and values; each takes about a hundred bytes when it is read.
_MAX_ITEMS = 2_000_000
_MAX_DEPTH = 200

Json = dict[str, Any]


def parsed(text: str | bytes, where: str) -> Json:
    """The JSON object in `text`, which messages call `where`.

    Raises:
        FileError: It is no JSON object, or one that is made to harm its reader.
    """
    try:
        shown = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        _refuse(where, f"is not UTF-8 ({error.reason})")
    items = sum(shown.count(mark) for mark in "[{,")
    if len(shown) > MAX_TEXT or items > _MAX_ITEMS:
        _refuse(where, f"has {len(shown):,} characters and {items:,} items")
    try:
        found = json.loads(shown, object_pairs_hook=lambda pairs: _unique(pairs, where))
    except FileError:
        raise
    except RecursionError:
        _refuse(where, f"is nested deeper than {_MAX_DEPTH}")
    except ValueError as error:
        _refuse(where, f"is no JSON ({gist(error)})")
    if not isinstance(found, dict):
        _refuse(where, f"is a {type(found).__name__}, not an object")
    if _deeper_than(found, _MAX_DEPTH):
        _refuse(where, f"is nested deeper than {_MAX_DEPTH}")
    return cast(Json, found)


def _unique(pairs: list[tuple[str, Any]], where: str) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(where, f"gives {twice!r} twice in one place")
    return found


def _deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            inner for outer in level for inner in items_of(outer) if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def items_of(value: Any) -> list[Any]:
    """What lies directly in a JSON object or list; nothing in anything else."""
    if isinstance(value, dict):
        return list(cast(Json, value).values())
    return cast("list[Any]", value) if isinstance(value, list) else []


def _refuse(where: str, what: str) -> NoReturn:
    raise FileError(
        f"{where} {what}. The configuration of a Keras model is required: JSON of sane size, each "
        "key once. Save the model again from where it came."
    )
