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
from bnfix.graph.definition import LayerKey
from bnfix.graph.graph import Call, Value
from bnfix.graph.pairing import paired
from bnfix.numerics.norm import GroupNormSpec
from bnfix.numerics.regression import Fit, Regression, RowSums, row_sums
from bnfix.passes.group_norm import Site


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
    network = Network(reading.adapter, reading.model, graph, layers)
    olds = {new: key for key, new in news.items()}
    stop = _Fitting(reading, {new: sites[key] for new, key in olds.items()}, olds)
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
    if site.by_batch:
        return _layer(reading, key, call, site.spec(site.norm.channels))
    norm, layer, shape = site.norm, reading.layers[key], call.inputs[0].shape
    return normalizer(reading.adapter, layer, shape, norm.moving_mean, norm.moving_variance)


def _layer(reading: Reading, key: LayerKey, call: Call, spec: GroupNormSpec) -> Callable[..., Any]:
    layer = build(reading.adapter.keras, reading.layers[key], spec, call.inputs[0].shape)
    return lambda inputs, **_: layer(inputs)


class _Fitting:
    """Compares and fits where the two networks meet."""

    def __init__(
        self, reading: Reading, sites: Mapping[LayerKey, Site], olds: Mapping[LayerKey, LayerKey]
    ) -> None:
        self.reading, self.adapter = reading, reading.adapter
        self.sites, self.olds = sites, olds
        self.regressions = {
            key: Regression(site.candidates, site.norm.channels, site.norm.epsilon)
            for key, site in sites.items()
        }
        self.fits: dict[LayerKey, Fit] = {}

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
                "The layers before it overflow there; look at their weights and at that batch. "
                "Nothing was changed.",
                path=call.path,
            )
        return sums

    def absorb(self, call: Call, summary: RowSums) -> None:
        self.regressions[call.layer].add(summary)

    def settle(self, calls: Sequence[Call]) -> Mapping[int, Callable[..., Any]]:
        settled: dict[LayerKey, Callable[..., Any]] = {}
        for call in calls:
            if call.layer not in settled:
                found = self.fits[call.layer] = self.regressions[call.layer].best()
                spec = fitted(self.sites[call.layer], found)
                settled[call.layer] = _layer(self.reading, self.olds[call.layer], call, spec)
        return {call.index: settled[call.layer] for call in calls}


def fitted(site: Site, found: Fit) -> GroupNormSpec:
    """The layer that `found` says, in place of the BatchNormalization at `site`."""
    return replace(site.spec(found.groups), gamma=found.gamma, beta=found.beta)
