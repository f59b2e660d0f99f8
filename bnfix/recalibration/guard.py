"""Is the model better for its new statistics? Its loss on the calibration data says so.

A model that was trained by a loop which never passed `training=True` has learned with the initial 0
and 1, and agrees with itself; statistics of the data, however exact, break it. Nothing in its
weights tells it from a model whose statistics were lost, but labels do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.breadth_first.loading import Loaded, as_inputs
from bnfix.breadth_first.pieces import TRACING_PAYS_FROM
from bnfix.data.batches import Batch
from bnfix.errors import DataError, OptionError, StatisticsError, gist
from bnfix.report import Rendered
from bnfix.tree import map_leaves

MODES = ("auto", "raise", False)

#: Of targets and predictions of one batch, a number that should be small.
Metric = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Verdict(Rendered):
    """Loss on the calibration data with the old statistics and with the new.

    Attributes:
        before: Mean over rows.
        after: Mean over rows.
    """

    before: float
    after: float

    @property
    def worse(self) -> bool:
        """Whether the new loss is larger by more than rounding, or not a number."""
        if not np.isfinite(self.before):
            return False
        rounding = 1e-5 * abs(self.before) + 1e-7
        return not self.after <= self.before + rounding

    def __str__(self) -> str:
        return f"loss on the calibration data {self.before:.4g} before, {self.after:.4g} after"


class Guard:
    """Keeps labelled batches as they pass, and computes the loss on them as often as asked.

    Args:
        adapter: Of the model's Keras.
        model: Whose loss it is.
        mode: One of `MODES`.
        metric: To judge by; by the compiled loss if None.
        limit: Bytes of inputs to keep at most, or None for all.
    """

    def __init__(
        self,
        adapter: Adapter,
        model: Any,
        mode: Any,
        metric: Metric | None,
        *,
        limit: int | None,
    ) -> None:
        if mode not in MODES:
            raise OptionError(f'guard is {mode!r}; it may be "auto", "raise" or False.')
        if metric is not None and not callable(metric):
            raise OptionError(
                f"metric is {metric!r}; it may be a function of the labels and the predictions."
            )
        self.adapter, self.model, self.mode, self.metric = adapter, model, mode, metric
        self.limit = limit
        self.kept: list[Loaded] = []
        self._bytes = 0
        self._complete = True
        self._watches = bool(mode) and (metric is not None or adapter.is_compiled(model))
        self._predict: Callable[[Any], Any] | None = None

    def watch(self, batches: Iterator[Loaded], norms: dict[str, Any]) -> Iterator[Loaded]:
        """Pass `batches` on and keep those that have labels.

        Raises:
            DataError: A metric was given, and no labels.
            StatisticsError: All of `norms` were never updated, and nothing can be compared.
        """
        for one in batches:
            if self._watches and one.batch.y is not None:
                self._bytes += sum(int(getattr(leaf, "nbytes", 0)) for leaf in one.flat)
                self._complete &= self.limit is None or self._bytes <= self.limit
                if self._complete or not self.kept:
                    self.kept.append(one)
            yield one
        if self.mode and not self.kept:
            self._refuse_blindness(norms)

    @property
    def can_judge(self) -> bool:
        return bool(self.kept)

    def loss(self) -> float:
        """Mean over the rows kept, in inference mode; the model is as before when it returns."""
        total = 0.0
        with self.adapter.preserved(self.model):
            for one in self.kept:
                total += one.rows * self._of(one)
        return total / sum(one.rows for one in self.kept)

    def _refuse_blindness(self, norms: dict[str, Any]) -> None:
        if self.metric is not None:
            raise DataError(
                "metric= compares labels with predictions, and the data has no labels. Pass "
                "(x, y), or leave metric out."
            )
        if _never_updated(norms):
            first = next(iter(norms))
            raise StatisticsError(
                f"all {len(norms)} BatchNormalizations, the first at {first}, still hold the mean "
                "0 and variance 1 that they began with, although gamma or beta were trained. "
                "Either their statistics were lost, or the model was trained without "
                "training=True and works as it is; new statistics would break it then. Pass "
                "labels, as (x, y), for a compiled model or with metric=, so that both can be "
                "compared; or guard=False to have the new ones anyway.",
                path=first,
            )

    def _of(self, one: Loaded) -> float:
        batch = one.batch
        predictions = self._predicted(as_inputs(self.adapter, self.model, one))
        if self.metric is not None:
            shown = map_leaves(self.adapter.to_numpy, predictions)
            return _measured(self.metric, batch, shown)
        y, weight = (map_leaves(self.adapter.fed, part) for part in (batch.y, batch.weight))
        return self.adapter.loss_of(self.model, batch.x, y, predictions, weight)

    def _predicted(self, inputs: Any) -> Any:
        if self._predict is None:
            predict = partial(self.model, training=False)
            pays = len(self.kept) >= TRACING_PAYS_FROM and self.adapter.has_graph(self.model)
            self._predict = self.adapter.compiled(predict, any_rows=False) if pays else predict
        return self._predict(inputs)


def _measured(metric: Metric, batch: Batch, predictions: Any) -> float:
    try:
        return float(np.mean(np.asarray(metric(batch.y, predictions), np.float64)))
    except Exception as error:  # it is the user's own
        raise OptionError(
            f"metric failed on the labels and predictions of batch {batch.index}: {gist(error)}. "
            "It has to give a number, or one a row."
        ) from error


def _never_updated(norms: dict[str, Any]) -> bool:
    """Whether all statistics are those of a new layer, and the rest of it is not."""
    held = [weights.read_norm(layer, rank=1) for layer in norms.values()]
    own = [norm for norm in held if norm is not None]
    untouched = all((n.moving_mean == 0).all() and (n.moving_variance == 1).all() for n in own)
    trained = any(
        (n.gamma is not None and (n.gamma != 1).any()) or (n.beta is not None and n.beta.any())
        for n in own
    )
    return bool(own) and untouched and trained
