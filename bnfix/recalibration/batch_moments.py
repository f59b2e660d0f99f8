"""Exact statistics by the graph: measure each BatchNormalization once all data has come to it.

Each is measured on inputs normalized by final statistics, so the result is that of one
training-mode pass over all the data as a single batch, for any batch size and order (Ioffe &
Szegedy 2015, arXiv:1502.03167, algorithm 2, without its small-batch approximation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bnfix.adapters.normalizing import normalizer
from bnfix.breadth_first.network import Network
from bnfix.graph.definition import LayerKey
from bnfix.graph.graph import Call, Value
from bnfix.numerics.moments import ChannelMoments
from bnfix.recalibration.measuring import axis_of, check_finite, merged, moments_of
from bnfix.recalibration.meeting import Meeting


class BatchMoments:
    """Collects the moments of what each BatchNormalization is called on, and lets it go on by them.

    Args:
        network: What runs.
        paths: Of the BNs to measure, by key.
        ddof: Of the variance by which measured BNs normalize.
        meeting: Where moments of other workers are added, once at each stop.

    Attributes:
        moments: Of each BN, by path, over all workers.
    """

    def __init__(
        self, network: Network, paths: Mapping[LayerKey, str], *, ddof: int, meeting: Meeting
    ) -> None:
        self.network, self.adapter, self.ddof = network, network.subject.adapter, ddof
        self.paths, self.meeting = paths, meeting
        self.moments: dict[str, ChannelMoments] = {}
        self._here: dict[LayerKey, ChannelMoments] = {}
        self._on_device = self.adapter.accelerated

    def taken(self, call: Call, made: Mapping[Value, Any]) -> Any:
        """Input and mask of the BN; its moments where tensors live outside of the processor."""
        tensor = made[call.inputs[0]]
        mask = call.arguments[1].get("mask")
        mask = self.adapter.mask_of(tensor) if mask is None else made.get(mask, mask)
        if not self._on_device:
            return tensor, mask
        axis = axis_of(self.network.layers[call.layer], len(tensor.shape), path=call.path)
        return self.adapter.moments(tensor, axis, mask)

    def summed(self, call: Call, taken: Any, where: str) -> ChannelMoments:
        layer = self.network.layers[call.layer]
        if self._on_device:
            moments = merged(self.adapter, layer, taken)
        else:
            moments = moments_of(self.adapter, layer, *taken, path=call.path)
        check_finite(moments, path=call.path, where=where)
        return moments

    def absorb(self, call: Call, summary: ChannelMoments) -> None:
        self._here.setdefault(call.layer, ChannelMoments(summary.mean.size)).absorb(summary)

    def rows_of(self, call: Call, rows: slice) -> None:
        """Nothing: all rows are normalized alike."""

    def settle(self, calls: Sequence[Call]) -> Mapping[int, Callable[..., Any]]:
        """The BNs just measured, normalizing by what was measured."""
        if not calls:
            return {}
        found = {self.paths[call.layer]: self._here[call.layer] for call in calls}
        self.moments |= self.meeting.merged(found, at=f"call {calls[0].index}")
        settled: dict[LayerKey, Callable[..., Any]] = {}
        for call in calls:
            if call.layer not in settled:
                moments = self.moments[self.paths[call.layer]]
                settled[call.layer] = normalizer(
                    self.adapter,
                    self.network.layers[call.layer],
                    call.inputs[0].shape,
                    moments.mean,
                    moments.variance(ddof=self.ddof),
                )
        return {call.index: settled[call.layer] for call in calls}
