"""Fit GroupNormalizations to the BatchNormalizations that they replace, one after the other.

The old network and the new one run side by side, stage by stage. Where a BatchNormalization is
replaced, all data is there twice: what the new network has made so far, and what the old layer
makes in that place. The numbers of groups are compared, the best gamma and beta are taken, and the
new network goes on with them, so later layers make up for what earlier ones could not keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bnfix.adapters.normalizing import normalizer
from bnfix.adapters.reading import Reading
from bnfix.adapters.replacing import build
from bnfix.breadth_first.loading import Loaded
from bnfix.breadth_first.network import Network
from bnfix.breadth_first.run import Ran, run
from bnfix.breadth_first.schedule import schedule
from bnfix.errors import StatisticsError
from bnfix.graph.definition import LayerKey, TensorSpec
from bnfix.graph.graph import Call, Value
from bnfix.graph.pairing import paired
from bnfix.graph.steps import rows_per_row
from bnfix.numerics.moments import Floats
from bnfix.numerics.norm import GroupNormSpec
from bnfix.numerics.regression import Fit, Regression, RowSums, normalizing, row_sums
from bnfix.passes.group_norm_sites import Site


def fit(
    reading: Reading,
    sites: Mapping[LayerKey, Site],
    batches: Iterator[Loaded],
    *,
    memory_limit: int | None = None,
    verbose: int | str = "auto",
) -> tuple[dict[LayerKey, Fit], Ran]:
    """The best GroupNormalization for each of `sites`, and what was run for it.

    Raises:
        StatisticsError: What reaches a layer is not finite.
        ModelError: The model fails on the data.
    """
    top = max(reading.layers, default=0) + 1
    news = {key: top + number for number, key in enumerate(sites)}
    layers = dict(reading.layers)
    for key, new in news.items():
        # Until it is fitted, the old layer stands for the new one: it makes the same shapes.
        layers[new] = layers[key]
        layers[key] = _as_it_was(reading, key, sites[key])
    graph = paired(reading.graph, news)
    network = Network(reading.subject, graph, layers)
    olds = {new: key for key, new in news.items()}
    stop = _Fitting(network, {new: sites[key] for new, key in olds.items()})
    ran = run(
        network,
        schedule(graph, olds),
        stop,
        batches,
        doing="fitting",
        memory_limit=memory_limit,
        verbose=verbose,
    )
    return {olds[new]: found for new, found in stop.fits.items()}, ran


def _as_it_was(reading: Reading, key: LayerKey, site: Site) -> Callable[..., Any]:
    """What the BatchNormalization makes at inference; of single rows, if it goes by the batch."""
    call = next(call for call in reading.graph if call.layer == key)
    norm, layer, shape = site.norm, reading.layers[key], call.inputs[0].shape
    if site.by_batch:
        alone = build(reading.adapter.keras, layer, site.spec(norm.channels), shape)
        return lambda inputs, **_: alone(inputs)
    return normalizer(reading.adapter, layer, shape, norm.moving_mean, norm.moving_variance)


class _Fitting:
    """Compares and fits where the two networks meet."""

    def __init__(self, network: Network, sites: Mapping[LayerKey, Site]) -> None:
        self.adapter, self.sites = network.subject.adapter, sites
        self._rows = rows_per_row(network.graph)
        self.regressions = {
            key: Regression(site.candidates, site.norm.channels, site.norm.epsilon)
            for key, site in sites.items()
        }
        self.fits: dict[LayerKey, Fit] = {}
        self._sums: dict[int, list[RowSums]] = {}  # by index of the call, until it is settled
        self._maps: dict[int, tuple[Floats, Floats]] = {}  # scale and shift of every row

    def taken(self, call: Call, made: Mapping[Value, Any]) -> tuple[Any, Any]:
        """What the new layer is called on, and what the old one makes."""
        x, y = call.inputs
        return made[x], made[y]

    def summed(self, call: Call, taken: tuple[Any, Any], where: str) -> RowSums:
        x, y = map(self.adapter.view, taken)
        sums = row_sums(x, y, axis=self.sites[call.layer].norm.axis)
        if not np.all(np.isfinite(sums.sums)):
            raise StatisticsError(
                f"{call.path}: what it is called on, or what it makes, is not finite in {where}. "
                "The layers before it overflow there; look at their weights and at that batch.",
                path=call.path,
            )
        return sums

    def absorb(self, call: Call, summary: RowSums) -> None:
        self.regressions[call.layer].add(summary)
        self._sums.setdefault(call.index, []).append(summary)

    def settle(self, calls: Sequence[Call]) -> Mapping[int, Callable[..., Any]]:
        for key in {call.layer for call in calls}:
            self.fits[key] = self.regressions[key].best()
        for call in calls:
            parts = [
                normalizing(sums, self.fits[call.layer], self.sites[call.layer].norm.epsilon)
                for sums in self._sums.pop(call.index)
            ]
            scale, shift = (np.concatenate(column) for column in zip(*parts, strict=True))
            self._maps[call.index] = scale, shift
        return {call.index: self._normalizer(call) for call in calls}

    def rows_of(self, call: Call, rows: slice) -> Any:
        """Scale and shift of each row and channel, from the sums that were taken of it already."""
        maps = self._maps.get(call.index)
        if maps is None:
            return None
        number = self._rows[call.inputs[0]]
        rows = slice(rows.start * number, rows.stop * number)
        if rows.stop == len(maps[0]):
            del self._maps[call.index]
        axis, rank = self.sites[call.layer].norm.axis, len(call.inputs[0].shape)
        dtype = self._wide(call)
        along = [-1 if at == axis else 1 for at in range(1, rank)]
        parts = (part[rows].reshape(rows.stop - rows.start, *along) for part in maps)
        return [self.adapter.to_tensor(p, TensorSpec(p.shape, dtype)) for p in parts]

    def _normalizer(self, call: Call) -> Callable[..., Any]:
        computes, wide = call.outputs[0].dtype, self._wide(call)

        def normalize(inputs: Any, *, by_row: Any) -> Any:
            scale, shift = by_row
            return self.adapter.cast(self.adapter.cast(inputs, wide) * scale + shift, computes)

        return normalize

    @staticmethod
    def _wide(call: Call) -> str:
        """GroupNormalization normalizes 16-bit inputs in float32, too."""
        return "float64" if call.outputs[0].dtype == "float64" else "float32"


def fitted(site: Site, found: Fit) -> GroupNormSpec:
    """The layer that `found` says, in place of the BatchNormalization at `site`."""
    return replace(site.spec(found.groups), gamma=found.gamma, beta=found.beta)
