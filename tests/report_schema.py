"""The JSON schema of the reports, made from their types; `reports.schema.json` is what it prints.

python tests/report_schema.py > bnfix/reports.schema.json
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import numpy as np

import bnfix
from bnfix.data.images import ImagesUsed
from bnfix.report import Rendered, VerbReport

PUBLISHED = Path(bnfix.__file__).parent / "reports.schema.json"

#: JSON has no word for what is not finite.
NUMBER = {"type": ["number", "null"]}
#: What the command adds to the report of a verb.
ADDED: dict[str, Any] = {
    "ok": {"type": "boolean", "description": "Whether nothing is wrong; told by the command."},
    "out": {"type": "string", "description": "The file that the command wrote."},
    "images": {"$ref": "#/$defs/ImagesUsed"},
}


def schema() -> dict[str, Any]:
    """Of every report that a verb returns, and of all that these are made of."""
    verbs = sorted(_verb_reports(), key=lambda kind: kind.__name__)
    found: dict[str, Any] = {}
    for kind in (*verbs, ImagesUsed):
        _define(kind, found)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Reports of bnfix",
        "description": "What to_dict() of a report gives, and what the command prints with --json; "
        "in the latter null stands for numbers that are not finite.",
        "anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in verbs],
        "$defs": dict(sorted(found.items())),
    }


def _verb_reports() -> Iterator[type[VerbReport]]:
    for name in bnfix.__all__:
        value = getattr(bnfix, name)
        if isinstance(value, type) and issubclass(value, VerbReport):
            yield value


def _define(kind: type[Rendered], found: dict[str, Any]) -> dict[str, str]:
    """A reference to `kind`, which is in `found` then."""
    if kind.__name__ not in found:
        found[kind.__name__] = {}
        told = _attributes(kind)
        hints = dict(_told(kind))
        properties = {
            name: {**_of(hint, found), **({"description": told[name]} if name in told else {})}
            for name, hint in hints.items()
        }
        added = ADDED if issubclass(kind, VerbReport) else {}
        found[kind.__name__] = {
            "type": "object",
            "description": (inspect.getdoc(kind) or "").partition("\n")[0],
            "properties": {**added, **properties},
            "required": list(properties),
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _told(kind: type[Rendered]) -> Iterator[tuple[str, Any]]:
    """Names and types of what `to_dict` tells."""
    public = {name: getattr(bnfix, name) for name in bnfix.__all__}
    hints = typing.get_type_hints(kind, None, public)
    yield from ((field.name, hints[field.name]) for field in dataclasses.fields(kind))
    for name in kind.derived:
        getter = next(vars(each)[name] for each in kind.__mro__ if name in vars(each)).fget
        yield name, typing.get_type_hints(getter, getter.__globals__)["return"]


def _attributes(kind: type) -> dict[str, str]:
    """What the docstrings say of each attribute."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        _, _, told = (inspect.cleandoc(each.__doc__ or "")).partition("Attributes:\n")
        for name, said in re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", told, re.MULTILINE):
            found[name] = re.sub(r"\s+", " ", said)
    return found


def _of(hint: Any, found: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        options = [each for each in arguments if each is not NoneType]
        return {"anyOf": [*(_of(each, found) for each in options), {"type": "null"}]}
    if origin is tuple:
        inner = [each for each in arguments if each is not ...]
        items = _of(inner[0], found)
        size = {} if ... in arguments else {"minItems": len(inner), "maxItems": len(inner)}
        return {"type": "array", "items": items, **size}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], found)}
    if origin is np.ndarray:
        return {"type": "array", "items": NUMBER}
    if issubclass(hint, Rendered):
        return _define(hint, found)
    if issubclass(hint, Enum):
        return {"type": "string", "enum": [str(word) for word in hint]}
    return _PLAIN[hint]


_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: NUMBER,
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n")
