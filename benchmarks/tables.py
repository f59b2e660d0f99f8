"""What was measured, as Markdown and CSV. The same results always give the same text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from textwrap import fill

from .benchmark import UNITS, AnyBenchmark, Measured, Row, Target
from .results import Earlier, Entry, Results

WIDTH = 120
HEAD = """
Made of [results.json](results.json) by `python -m benchmarks --write-results FOLDER`; that
file has every repeat of every number. [README.md](README.md) says how to run it. Times are medians
of the rounds, in which the contenders took turns; a ratio is the median of the ratios of the single
rounds, with the smallest and the largest."""


def document(results: Results, benchmarks: Sequence[AnyBenchmark]) -> str:
    """All of RESULTS.md."""
    parts = ["# Results", _filled(HEAD), "## Targets", targets(results, benchmarks)]
    for benchmark in benchmarks:
        if entry := results.entries.get(benchmark.name):
            parts += [f"## {benchmark.name}", section(benchmark, entry)]
    if results.earlier:
        parts += ["## Measured earlier", "As it was written down then, by versions of that day."]
        parts += [_earlier(each) for each in results.earlier]
    return "\n\n".join(parts) + "\n"


def targets(results: Results, benchmarks: Sequence[AnyBenchmark]) -> str:
    """Target, measured, met: a line for each target of all benchmarks."""
    rows = [["benchmark", "what", "at most", "measured", "met", "bounded by"]]
    rows += [
        [benchmark.name, *_judged(target, results.entries.get(benchmark.name))]
        for benchmark in benchmarks
        for target in benchmark.targets
    ]
    return table(rows)


def _judged(target: Target, entry: Entry | None) -> list[str]:
    row = target.row(entry.rows) if entry else None
    if row is None or entry is None:
        return [target.what, f"{target.most:g}", "", "not measured", ""]
    number = row.numbers[target.number]
    verdict = "yes" if number.median <= target.most else "**no**"
    if entry.quick:
        verdict = "not judged: a quick run"
    bounds = ((name, row.numbers[name]) for name in target.bounds if name in row.numbers)
    bounded = "; ".join(f"{name}: {shown(one)} {_unit(one)}".strip() for name, one in bounds)
    most = f"{target.most:g} {_unit(number)}".strip()
    return [target.what, most, shown(number), verdict, bounded]


def section(benchmark: AnyBenchmark, entry: Entry) -> str:
    """What one benchmark asks, found, left out, and where it was measured."""
    question, _, rest = (benchmark.about or "").strip().partition("\n")
    rest = re.sub(r"\n\n    .*?(?=\n\n|\Z)", "", f"\n{rest}", flags=re.DOTALL)  # how to run it
    parts = [question, *(_filled(part) for part in rest.strip().split("\n\n") if part)]
    titles = dict.fromkeys(row.table for row in entry.rows)
    for title in titles:
        parts += [f"**{title}**"] if title else []
        parts.append(table(_cells([row for row in entry.rows if row.table == title])))
    parts += [_filled(f"Skipped: {each.what}, {each.reason}.") for each in entry.skipped]
    if entry.failed:
        parts.append(_filled(f"It was ended by an error: {entry.failed}"))
    return "\n\n".join([*parts, _filled(circumstances(entry))])


def circumstances(entry: Entry) -> str:
    """When, with what, where, and how busy the machine was with other work."""
    options = "; ".join(f"{name}: {_option(value)}" for name, value in entry.options.items())
    machine, packages = entry.machine, entry.versions
    busy = "" if entry.others is None else f"; others used {entry.others:.0%} of it meanwhile"
    quick = "A quick run, too small to judge by. " if entry.quick else ""
    return (
        f"{quick}Measured on {entry.date[:10]} in {entry.seconds:.0f} s ({options}) on "
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory']} GiB, "
        f"{machine['system']}{busy}. "
        + ", ".join(f"{name} {version}" for name, version in packages.items())
        + "."
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """The first of `rows` is the head."""
    rule = ["---"] * len(rows[0])
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def shown(number: Measured) -> str:
    """The median, and of a ratio that was measured more than once also its range."""
    write = UNITS[number.unit].format
    median, least, most = (
        write(value) for value in (number.median, min(number.repeats), max(number.repeats))
    )
    return f"{median} ({least} to {most})" if number.unit == "x" and least != most else median


def as_csv(rows: Iterable[Row]) -> str:
    """A line for each number of each round, to be read by other programs."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(["table", "labels", "at", "number", "unit", "round", "value"])
    for row in rows:
        labels = "; ".join(f"{name}={label}" for name, label in row.labels.items())
        at = "" if row.at is None else f"{row.at:g}"
        for name, number in row.numbers.items():
            for turn, value in enumerate(number.repeats):
                write([row.table, labels, at, name, number.unit, turn, repr(value)])
    return out.getvalue()


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    """The head, and a line for each row; columns are all that any row has."""
    labels = dict.fromkeys(name for row in rows for name in row.labels)
    numbers: dict[str, str] = {}
    for row in rows:
        numbers |= {name: _unit(number) for name, number in row.numbers.items()}
    notes = dict.fromkeys(name for row in rows for name in row.notes)
    heads = [f"{name} ({unit})" if unit else name for name, unit in numbers.items()]
    cells = [[*labels, *heads, *notes]]
    for row in rows:
        found = [row.numbers.get(name) for name in numbers]
        cells.append(
            [
                *(row.labels.get(name, "") for name in labels),
                *(shown(number) if number else "" for number in found),
                *(row.notes.get(name, "") for name in notes),
            ]
        )
    return cells


def _unit(number: Measured) -> str:
    return "" if number.unit in ("x", "count") else number.unit


def _option(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _filled(text: str) -> str:
    return fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _earlier(told: Earlier) -> str:
    blocks = [block if isinstance(block, str) else table(block) for block in told.blocks]
    return "\n\n".join([f"### {told.title}", *blocks])
