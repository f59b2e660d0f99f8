"""What was measured, as data: one entry a benchmark, kept in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .benchmark import Measured, Row, Skipped


@dataclass(frozen=True)
class Entry:
    """One run of one benchmark.

    Attributes:
        date: When it began, ISO 8601.
        seconds: What it took, all of it.
        quick: Whether with the quick options.
        others: The share of the processor that everybody else used meanwhile; None: not known.
        machine: See `machine.machine`.
        versions: See `machine.versions`.
        options: As they were.
        rows: What was measured.
        skipped: What was not.
        failed: The error that ended it, if one did.
    """

    date: str
    seconds: float
    quick: bool
    others: float | None
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]
    options: Mapping[str, Any]
    rows: Sequence[Row] = ()
    skipped: Sequence[Skipped] = ()
    failed: str = ""

    @property
    def worth(self) -> tuple[bool, bool, bool]:
        """The higher, the more there is to it."""
        return bool(self.rows), not self.failed, not self.quick


@dataclass(frozen=True)
class Earlier:
    """What was measured before there were entries, as it was written down then.

    Attributes:
        title: Of the section.
        until: The benchmark whose full run replaces it.
        blocks: In their order: a paragraph is a string, a table its rows of cells, the head first.
    """

    title: str
    until: str
    blocks: Sequence[str | Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Results:
    entries: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    earlier: Sequence[Earlier] = ()

    def with_entry(self, name: str, entry: Entry) -> Results:
        """With `entry`, unless there is one that is worth more: see `Entry.worth`."""
        known = self.entries.get(name)
        if known is not None and known.worth > entry.worth:
            return self
        whole = all(entry.worth)
        left = tuple(told for told in self.earlier if not (whole and told.until == name))
        return Results({**self.entries, name: entry}, left)

    def with_results(self, other: Results) -> Results:
        made = self
        for name, entry in other.entries.items():
            made = made.with_entry(name, entry)
        return made


def load(file: Path) -> Results:
    """What `file` holds; nothing where there is no such file."""
    if not file.exists():
        return Results()
    told = json.loads(file.read_text("utf-8"))
    return Results(
        {name: _entry(each) for name, each in told["entries"].items()},
        tuple(Earlier(**each) for each in told["earlier"]),
    )


def save(results: Results, file: Path) -> None:
    entries = {name: _told(entry) for name, entry in sorted(results.entries.items())}
    told = {"entries": entries, "earlier": [asdict(each) for each in results.earlier]}
    file.parent.mkdir(parents=True, exist_ok=True)
    partly = file.with_suffix(".part")  # a run that is cut leaves the old file or the new one
    partly.write_text(_json(told, depth=4) + "\n", "utf-8")
    partly.replace(file)


def _told(entry: Entry) -> dict[str, Any]:
    told = asdict(entry)
    for made, row in zip(told["rows"], entry.rows, strict=True):
        for name, number in row.numbers.items():
            made["numbers"][name]["median"] = number.median
    return told


def _json(told: Any, depth: int, indent: str = "\n") -> str:
    """Down to `depth` what is in `told` has lines of its own: a row of a table has one."""
    if depth == 0 or not told or not isinstance(told, (dict, list, tuple)):
        return json.dumps(told)
    inner = indent + " "
    if isinstance(told, dict):
        parts = [f"{json.dumps(key)}: {_json(told[key], depth - 1, inner)}" for key in told]
        return "{" + ",".join(inner + part for part in parts) + indent + "}"
    return "[" + ",".join(inner + _json(part, depth - 1, inner) for part in told) + indent + "]"


def _entry(told: dict[str, Any]) -> Entry:
    rows = tuple(_row(each) for each in told.pop("rows"))
    skipped = tuple(Skipped(**each) for each in told.pop("skipped"))
    return Entry(**told, rows=rows, skipped=skipped)


def _row(told: dict[str, Any]) -> Row:
    numbers = {name: _number(each) for name, each in told.pop("numbers").items()}
    return Row(**told, numbers=numbers)


def _number(told: dict[str, Any]) -> Measured:
    return Measured(told["unit"], tuple(told["repeats"]))
