"""What became of each BatchNormalization in favour of which GroupNormalization stands."""

from __future__ import annotations

from dataclasses import dataclass

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
        return tuple(
            layer for layer in self.layers if layer.explained is not None and layer.explained < POOR
        )

    def __str__(self) -> str:
        fitted = f", fitted to {self.rows:,} rows" if self.rows else ""
        head = f"to_group_norm: {len(self.changed)} of {len(self.layers)} layers replaced{fitted}"
        width = max((len(layer.path) for layer in self.layers), default=5)
        columns = f"  {'layer':<{width}}  {'groups':>6}  {'channels':>8}  {'explained':>9}"
        rows = [self._row(layer, width) for layer in self.layers]
        return "\n".join([head, columns, *rows, *(f"  note: {note}" for note in self.notes)])

    @staticmethod
    def _row(layer: LayerGroups, width: int) -> str:
        groups = str(layer.groups) if layer.changed else "stays"
        explained = "" if layer.explained is None else f"{layer.explained:.1%}"
        return (
            f"  {layer.path:<{width}}  {groups:>6}  {layer.channels:>8}  {explained:>9}"
            f"  {layer.detail}"
        ).rstrip()
