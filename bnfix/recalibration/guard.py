"""Is the model better for its new statistics? Its loss on the calibration data says so.

A model that was trained by a loop which never passed `training=True` has learned with the initial 0
and 1, and agrees with itself; statistics of the data, however exact, break it. Nothing in its
weights tells it from a model whose statistics were lost, but labels do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from bnfix.adapters import weights
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import Loaded, as_inputs
from bnfix.errors import DataError, Incomparable, OptionError, StatisticsError, gist
from bnfix.progress import counted
from bnfix.recalibration.verdict import Sample
from bnfix.tree import map_leaves

MODES = ("auto", "raise", False)

#: Groups of rows at most, of which losses are compared.
_GROUPS = 64

#: Of targets and predictions of one batch, a number that should be small.
Metric = Callable[[Any, Any], Any]


def check_mode(mode: Any, metric: Any) -> None:
    """Refuse what a guard cannot go by.

    Raises:
        OptionError: `mode` is none of `MODES`, or `metric` no function.
    """
    if mode not in MODES:
        raise OptionError(f'guard is {mode!r}; it may be "auto", "raise" or False.')
    if metric is not None and not callable(metric):
        raise OptionError(
            f"metric is {metric!r}; it may be a function of the labels and the predictions."
        )


class Guard:
    """Keeps labelled batches as they pass, and computes the loss on them as often as asked.

    Args:
        subject: Whose loss it is.
        mode: One of `MODES`.
        metric: To judge by; by the compiled loss if None.
        limit: Bytes of inputs to keep at most, or None for all.
    """

    def __init__(
        self, subject: Subject, mode: Any, metric: Metric | None, *, limit: int | None
    ) -> None:
        self.subject, self.mode, self.metric = subject, mode, metric
        self.adapter, self.model = subject
        self.limit = limit
        self.kept: list[Loaded] = []
        self._bytes = 0
        self._complete = True
        self._watches = bool(mode) and (metric is not None or self.adapter.is_compiled(self.model))
        self._predict: Callable[[Any], Any] | None = None
        self.reason: str | None = None  # why losses cannot be compared, although labels are there

    def watch(self, batches: Iterator[Loaded], norms: dict[str, Any]) -> Iterator[Loaded]:
        """Pass `batches` on and keep those that have labels.

        Raises:
            DataError: A metric was given, and no labels.
            StatisticsError: All of `norms` were never updated, and nothing can be compared.
        """
        empty = True
        for one in batches:
            empty = False
            if self._watches and one.batch.y is not None:
                self._bytes += sum(int(getattr(leaf, "nbytes", 0)) for leaf in one.flat)
                self._complete &= self.limit is None or self._bytes <= self.limit
                if self._complete or not self.kept:
                    self.kept.append(one)
            yield one
        if self.mode and not self.kept and not empty:
            self._refuse_blindness(norms)

    def sample(self, norms: dict[str, Any], verbose: int | str = 0) -> Sample | None:
        """Losses of the rows kept, in inference mode; the model is as before when it returns.

        None where there is nothing to compare, and `reason` says why if there should be.

        Raises:
            StatisticsError: As `watch` does, where the model has no loss after all.
        """
        if not self.kept or self.reason is not None:
            return None
        number = sum(one.rows for one in self.kept)
        size = max(1, -(-number // _GROUPS))
        found: list[tuple[float, int]] = []
        try:
            with self.adapter.preserved(self.model):
                for one in counted(self.kept, "comparing losses", verbose):
                    found += self._of(one, size)
        except Incomparable as reason:
            self.reason = str(reason)
            self._refuse_blindness(norms)
            return None
        losses, rows = np.array(found, np.float64).T
        return Sample(losses, rows)

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
                advises=("guard",),
            )

    def _of(self, one: Loaded, size: int) -> list[tuple[float, int]]:
        """Loss and number of rows of each group of `size` rows of a batch."""
        predictions = self._predicted(as_inputs(self.subject, one))
        if self.metric is not None:
            return self._by_metric(self.metric, one, predictions)
        if self.adapter.is_distributed(self.model):  # losses are added up within a step of its own
            batch = one.batch
            return [(self.adapter.loss(self.model, batch.x, batch.y, batch.weight), one.rows)]
        groups = [slice(start, start + size) for start in range(0, one.rows, size)]
        try:
            return [self._by_loss(one, predictions, group) for group in groups]
        except Incomparable:  # a loss may be one of a whole batch
            return [self._by_loss(one, predictions, slice(0, one.rows))]

    def _by_metric(self, metric: Metric, one: Loaded, predictions: Any) -> list[tuple[float, int]]:
        shown = map_leaves(self.adapter.to_numpy, predictions)
        try:
            found = np.asarray(metric(one.batch.y, shown), np.float64)
        except Exception as error:  # it is the user's own
            raise OptionError(
                f"metric failed on the labels and predictions of batch {one.batch.index}: "
                f"{gist(error)}. It has to give a number, or one a row."
            ) from error
        if found.shape[:1] == (one.rows,) and one.rows > 1:
            by_row = found.reshape(one.rows, -1).mean(axis=1)
            return [(float(loss), 1) for loss in by_row]
        return [(float(np.mean(found)), one.rows)]

    def _by_loss(self, one: Loaded, predictions: Any, group: slice) -> tuple[float, int]:
        def cut(part: Any) -> Any:
            return map_leaves(lambda leaf: leaf[group], part)

        batch = one.batch
        y, weight = (map_leaves(self.adapter.fed, cut(part)) for part in (batch.y, batch.weight))
        try:
            x, shown = cut(batch.x), cut(predictions)
            loss = self.model.compute_loss(x=x, y=y, y_pred=shown, sample_weight=weight)
            if loss is None:
                raise Incomparable("it has no loss")
            found = self.adapter.a_loss(self.model, float(self.adapter.to_numpy(loss)))
        except Incomparable:
            raise
        except Exception as error:  # whatever a loss, or the lack of one, raises
            raise Incomparable(gist(error)) from error
        return found, len(range(one.rows)[group])

    def _predicted(self, inputs: Any) -> Any:
        if self._predict is None:
            predict: Callable[[Any], Any] = partial(self.model, training=False)
            many = len(self.kept) >= self.adapter.backend.compiling_pays_from
            pays = many and self.adapter.has_graph(self.model)
            if pays:  # for the statistics before as for those after
                reads = self.adapter.weights(self.model)
                predict = self.adapter.compiled(predict, any_rows=False, reads=reads)
            self._predict = predict
        return self._predict(inputs)


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
