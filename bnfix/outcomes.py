"""What an operation did and did not do, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from bnfix.rendering.charts import Cell, Mood, Strip
from bnfix.rendering.story import Column, Story, Table, notes
from bnfix.report import Rendered, VerbReport


@dataclass(frozen=True)
class LayerRecord(Rendered):
    """One layer of a network.

    Attributes:
        path: Full path of the layer.
        kind: Name of its class.
    """

    path: str
    kind: str


@dataclass(frozen=True)
class Outcome(Rendered):
    """What became of one layer.

    Attributes:
        path: Full path of the layer; nested models repeat names.
        changed: Whether the operation changed it.
        detail: What was done, or why not.
        into: Paths of the layers that took it up, where it is gone.
    """

    path: str
    changed: bool
    detail: str
    into: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report(VerbReport):
    """What an operation did, layer by layer.

    Attributes:
        operation: Name of the bnfix function.
        outcomes: One per layer that the operation is about, in the model's order.
        notes: What else the user should know, a sentence each.
        network: All layers of the model as it was, in the order in which they run; empty where
            that is not known.
    """

    operation: str
    outcomes: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()
    network: tuple[LayerRecord, ...] = ()

    @property
    def changed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.changed)

    @property
    def declined(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if not outcome.changed)

    def story(self) -> Story:
        head = f"{self.operation}: {len(self.changed)} of {len(self.outcomes)} layers changed"
        mood = Mood.WARNING if self.declined else Mood.GOOD
        parts = (outcome_table(self.outcomes), *notes(self.notes))
        strip = network_strip(self.operation, self.network, self.outcomes)
        return Story(head, parts, mood, (strip,))


def outcome_table(outcomes: tuple[Outcome, ...]) -> Table:
    columns = [
        Column[Outcome](
            "outcome",
            lambda outcome: "changed" if outcome.changed else "declined",
            mood=lambda outcome: Mood.GOOD if outcome.changed else Mood.WARNING,
        ),
        Column[Outcome]("path", lambda outcome: outcome.path, "layer"),
        Column[Outcome]("detail", lambda outcome: outcome.detail),
        Column[Outcome]("into", lambda outcome: ", ".join(outcome.into), told=False),
    ]
    lines = [
        f"{'changed ' if outcome.changed else 'declined'}  {outcome.path}: {outcome.detail}"
        for outcome in outcomes
    ]
    return Table.of("outcomes", outcomes, columns, lines)


def network_strip(
    operation: str, network: tuple[LayerRecord, ...], outcomes: tuple[Outcome, ...]
) -> Strip:
    """The network with what became of each layer; of a network not known, the layers told of."""
    became = {outcome.path: outcome for outcome in outcomes}
    hosts = {path for outcome in outcomes for path in outcome.into}
    layers = network or tuple(LayerRecord(outcome.path, "") for outcome in outcomes)

    def cell(layer: LayerRecord) -> Cell:
        outcome = became.get(layer.path)
        if outcome is None:
            mood = Mood.ACCENT if layer.path in hosts else Mood.PLAIN
            return Cell(layer.path, layer.kind, mood)
        if outcome.changed:
            return Cell(layer.path, layer.kind, Mood.GOOD)
        return Cell(layer.path, layer.kind, Mood.BAD, _of_it(outcome))

    at = {layer.path: position for position, layer in reversed(list(enumerate(layers)))}
    links = tuple(
        (at[outcome.path], at[path])
        for outcome in outcomes
        for path in outcome.into
        if outcome.path in at and path in at
    )
    meanings = {
        Mood.GOOD: "folded" if operation == "fold" else "changed",
        Mood.ACCENT: "takes it up",
        Mood.BAD: "stays, for the reason with its number",
        Mood.PLAIN: "has no part in it",
    }
    cells = tuple(cell(layer) for layer in layers)
    there = {each.mood for each in cells}
    legend = tuple((mood, meaning) for mood, meaning in meanings.items() if mood in there)
    title = "the network in the order in which it runs" if network else "the layers it is about"
    return Strip(f"{operation}: {title}", cells, links, legend)


def _of_it(outcome: Outcome) -> str:
    """Why a layer stays, without its path in front, so that equal reasons are told once."""
    own = f"{outcome.path} "
    return f"it {outcome.detail[len(own) :]}" if outcome.detail.startswith(own) else outcome.detail
