"""The tables and the picture of the results."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.tables import table

from . import opponents
from .graphs import GRAPHS
from .outcomes import MARKS, Outcome

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "comparison.md"
PICTURE = ROOT / "docs" / "comparison.png"
#: As they are called in tables.
KERASES = {"keras": "Keras 3", "tf_keras": "Keras 2", "tensorflow.keras": "Keras 2"}
#: Nobody can do better in a row than to fold, or to say why not.
COLOURS = {
    Outcome.FOLDED: "#1b7f79",
    Outcome.PARTLY: "#58b09c",
    Outcome.LEFT: "#a9d6c9",
    Outcome.PARTLY_SILENTLY: "#d9cfa3",
    Outcome.LEFT_SILENTLY: "#ece7d5",
    Outcome.RAISED: "#e8a14b",
    Outcome.WRONG: "#c8102e",
    Outcome.NOT_THERE: "#ffffff",
}


def everything(results: dict[str, Any]) -> None:
    """Puts the tables between their marks in the page, and draws the picture."""
    found = columns(results)
    put(PAGE, "summary", summary(found))
    put(PAGE, "graphs", by_graph(found))
    put(PAGE, "calls", calls(found, results))
    if measured := results.get("statistics"):
        put(PAGE, "statistics", statistics(measured))
    draw(found)


def columns(results: dict[str, Any]) -> list[tuple[ModuleType, str, dict[str, Any]]]:
    """Opponent, what it is called here, what came of the graphs; in the order of the opponents."""
    found: list[tuple[ModuleType, str, dict[str, Any]]] = []
    for name in opponents.ALL:
        opponent = importlib.import_module(f".opponents.{name}", __package__)
        for framework in opponent.FRAMEWORKS:
            if result := results.get(f"{name} {framework}"):
                title = opponent.TITLE
                if len(opponent.FRAMEWORKS) > 1:
                    title += f", {KERASES[framework]}"
                found.append((opponent, title, result["graphs"]))
    return found


def summary(columns: list[Any]) -> str:
    """How often each outcome came, for each opponent."""
    kinds = [outcome for outcome in Outcome if outcome is not Outcome.NOT_THERE]
    rows = [["", *(kind.value for kind in kinds), "of"]]
    for _, title, graphs in columns:
        counts = Counter(Outcome(told["outcome"]) for told in graphs.values())
        of = len(graphs) - counts[Outcome.NOT_THERE]
        rows.append([title, *(str(counts[kind] or "") for kind in kinds), str(of)])
    return table(rows)


def by_graph(columns: list[Any]) -> str:
    """What came of each graph, for each opponent."""
    rows = [["graph", *(title for _, title, _ in columns)]]
    family = ""
    for graph in GRAPHS.values():
        if graph.family != family:
            family = graph.family
            rows.append([f"**{family}**", *("" for _ in columns)])
        marks = [
            MARKS[Outcome(graphs[graph.name]["outcome"])] if graph.name in graphs else ""
            for *_, graphs in columns
        ]
        rows.append([graph.name.replace("_", " "), *marks])
    return table(rows)


def calls(columns: list[Any], results: dict[str, Any]) -> str:
    """How each opponent is called, and in which versions."""
    lines: list[str] = []
    for opponent in dict.fromkeys(opponent for opponent, *_ in columns):
        name = opponent.__name__.rpartition(".")[2]
        versions: dict[str, str] = {}
        for framework in opponent.FRAMEWORKS:
            versions |= results.get(f"{name} {framework}", {}).get("versions", {})
        told = ", ".join(f"{package} {version}" for package, version in versions.items())
        lines.append(f"- **{opponent.TITLE}** ({told}): {opponent.NOTE}")
    return "\n".join(lines)


def statistics(measured: dict[str, Any]) -> str:
    """The errors and times of the statistics."""
    networks = [key for key in measured if key != "versions"]
    rows = [["", *(f"{n}: {what}" for n in networks for what in ("mean", "deviation", "CPU s"))]]
    first = measured[networks[0]]
    for way in sorted(first, key=lambda way: first[way]["mean"]):
        cells = [measured[network][way] for network in networks]
        rows.append(
            [
                way,
                *(
                    text
                    for cell in cells
                    for text in (
                        f"{cell['mean']:.1g}",
                        f"{cell['deviation']:.1g}",
                        f"{cell['seconds']:.1f}",
                    )
                ),
            ]
        )
    return table(rows)


def put(file: Path, mark: str, text: str) -> None:
    """Replaces what stands between the marks of that name in `file`."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    content, count = pattern.subn(lambda _: f"{begin}\n\n{text}\n\n{end}", file.read_text())
    if count != 1:
        raise SystemExit(f"{file} has {count} places marked {begin}; it needs one")
    file.write_text(content)


def draw(columns: list[Any]) -> None:
    """A row for each opponent, a cell for each graph."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch, Rectangle

    names = list(GRAPHS)
    figure, axes = plt.subplots(figsize=(14, 0.42 * len(columns) + 2.1), dpi=150)
    starts: dict[str, float] = {}
    places: dict[str, float] = {}
    x = 0.0
    for name in names:
        if GRAPHS[name].family not in starts:
            x += 1.0 if starts else 0.0  # between families
            starts[GRAPHS[name].family] = x
        places[name] = x
        x += 1.0
    for row, (_, title, graphs) in enumerate(columns):
        for name, told in graphs.items():
            outcome = Outcome(told["outcome"])
            if outcome is not Outcome.NOT_THERE:
                colour = COLOURS[outcome]
                axes.add_patch(Rectangle((places[name], row), 0.92, 0.8, color=colour, lw=0))
        counts = Counter(Outcome(told["outcome"]) for told in graphs.values())
        weight = "bold" if title.startswith("bnfix") else "normal"
        axes.text(-0.6, row + 0.4, title, ha="right", va="center", fontsize=10, weight=weight)
        wrong = counts[Outcome.WRONG]
        for place, count, colour in (
            (x + 4.3, counts[Outcome.FOLDED], COLOURS[Outcome.FOLDED]),
            (x + 8.3, wrong, COLOURS[Outcome.WRONG] if wrong else "#999999"),
        ):
            axes.text(place, row + 0.4, count, ha="right", va="center", fontsize=10, color=colour)
    axes.text(x + 4.6, -0.25, "folded", ha="right", va="bottom", fontsize=9)
    axes.text(x + 8.6, -0.25, "wrong", ha="right", va="bottom", fontsize=9)
    for family, start in starts.items():
        width = sum(GRAPHS[name].family == family for name in names)
        label = family if width > 8 else family.replace(" ", "\n")
        axes.text(start + width / 2, -0.25, label, ha="center", va="bottom", fontsize=9)
    shown = [outcome for outcome in Outcome if outcome is not Outcome.NOT_THERE]
    axes.legend(
        handles=[Patch(color=COLOURS[outcome], label=outcome.value) for outcome in shown],
        loc="upper center",
        bbox_to_anchor=(0.45, 0.0),
        ncol=len(shown),
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.2,
    )
    axes.set_xlim(0, x + 8.8)
    axes.set_ylim(len(columns), -1)
    axes.axis("off")
    figure.savefig(PICTURE, bbox_inches="tight", facecolor="white")
    plt.close(figure)
