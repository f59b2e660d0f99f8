"""What became of each BatchNormalization in favour of which GroupNormalization stands."""

from __future__ import annotations

from dataclasses import dataclass

from bnfix.rendering.charts import Bars, Mood, Panel
from bnfix.rendering.story import Column, Story, Table, notes
from bnfix.report import Rendered, VerbReport

#: Share of the variance below which a layer is said to be poorly reproduced.
POOR = 0.8


@dataclass(frozen=True)
class LayerGroups(Rendered):
    """One BatchNormalization.

    Attributes:
        path: Full path of the layer.
        groups: Of the GroupNormalization in its place; 0 if it stays.
        channels: Number of its channels.
        explained: Share of the variance of what it made, over all rows, positions and channels,
            that the layer in its place reproduces; None where nothing was compared.
        exact: Whether single rows come out of it as before.
        detail: Why it stays, or what else there is to say.
    """

    path: str
    groups: int
    channels: int
    explained: float | None = None
    exact: bool = False
    detail: str = ""

    @property
    def changed(self) -> bool:
        return self.groups > 0


@dataclass(frozen=True)
class GroupNormReport(VerbReport):
    """What `to_group_norm` did, layer by layer.

    Attributes:
        layers: One for each BatchNormalization, in the model's order.
        rows: Number of rows that the new layers were fitted to; 0 without data.
        notes: What else the user should know.
    """

    layers: tuple[LayerGroups, ...]
    rows: int = 0
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[LayerGroups, ...]:
        return tuple(layer for layer in self.layers if layer.changed)

    @property
    def declined(self) -> tuple[LayerGroups, ...]:
        return tuple(layer for layer in self.layers if not layer.changed)

    @property
    def poor(self) -> tuple[LayerGroups, ...]:
        """Layers that reproduce little of what stood in their place."""
        return tuple(layer for layer in self.layers if _is_poor(layer))

    def story(self) -> Story:
        fitted = f", fitted to {self.rows:,} rows" if self.rows else ""
        head = f"to_group_norm: {len(self.changed)} of {len(self.layers)} layers replaced{fitted}"
        mood = Mood.WARNING if self.declined or self.poor else Mood.GOOD
        parts = (Table.of("layers", self.layers, _COLUMNS), *notes(self.notes))
        return Story(head, parts, mood, (self._quality(),))

    def _quality(self) -> Bars:
        panel = Panel(
            "share of the variance that GroupNormalization reproduces",
            tuple(layer.explained for layer in self.layers),
            limit=POOR,
            limit_title=f"poor below {POOR:.0%}",
            form=".1%",
        )
        return Bars(
            "How well GroupNormalization stands in for BatchNormalization",
            tuple(f"{layer.path}{'' if layer.changed else ' (stays)'}" for layer in self.layers),
            (panel,),
            tuple(_mood(layer) for layer in self.layers),
            empty="the model has no BatchNormalization",
        )


def _is_poor(layer: LayerGroups) -> bool:
    return layer.explained is not None and layer.explained < POOR


def _mood(layer: LayerGroups) -> Mood:
    return Mood.BAD if _is_poor(layer) else Mood.ACCENT


_COLUMNS: tuple[Column[LayerGroups], ...] = (
    Column("path", lambda layer: layer.path, "layer"),
    Column(
        "groups", lambda layer: layer.groups, show=lambda groups: str(groups or "stays"), right=True
    ),
    Column("channels", lambda layer: layer.channels, right=True),
    Column(
        "explained",
        lambda layer: layer.explained,
        show=lambda share: "" if share is None else f"{share:.1%}",
        right=True,
        mood=lambda layer: Mood.BAD if _is_poor(layer) else Mood.PLAIN,
    ),
    Column("detail", lambda layer: layer.detail, ""),
    Column("exact", lambda layer: layer.exact, told=False),
)
