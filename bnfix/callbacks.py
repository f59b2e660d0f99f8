"""bnfix inside `fit`: fresh statistics before each validation, and BN frozen from some epoch on.

These are callbacks to both Kerases without being a subclass of either's, since nothing here may
import a Keras. What a CallbackList asks of its members is in `_Callback`; `fit` looks up the train
function anew for each step, so one made within an epoch's hook is the one that is used.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from bnfix.adapters import state
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.fingerprint import fingerprint
from bnfix.adapters.fitting import calling_list
from bnfix.data.batches import batches
from bnfix.errors import BnfixWarning, DataError, StatisticsError, WorkerError
from bnfix.graph.select import Selection, select
from bnfix.operations.freeze import freeze
from bnfix.options import whole
from bnfix.recalibration.procedure import Options
from bnfix.recalibration.recalibrate import recalibrate
from bnfix.recalibration.statistics import LayerStatistics, RecalibrationReport
from bnfix.restoring import all_or_nothing, put_back_after


class _Callback:
    """Everything that `fit`, `evaluate` and `predict` of either Keras call, doing nothing.

    Attributes:
        model: The model at work.
        params: What `fit` was told: epochs, steps, verbose.
    """

    async_safe = True  # Keras 3 may run the batch hooks, which do nothing, in another thread
    _supports_tf_logs = True  # tf_keras need not make numbers of logs that nobody reads

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def _implements_no_batch_hooks(self) -> bool:
        return False

    _implements_train_batch_hooks = _implements_no_batch_hooks
    _implements_test_batch_hooks = _implements_no_batch_hooks
    _implements_predict_batch_hooks = _implements_no_batch_hooks

    def on_train_begin(self, logs: Any = None) -> None: ...
    def on_train_end(self, logs: Any = None) -> None: ...
    def on_test_begin(self, logs: Any = None) -> None: ...
    def on_test_end(self, logs: Any = None) -> None: ...
    def on_predict_begin(self, logs: Any = None) -> None: ...
    def on_predict_end(self, logs: Any = None) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None: ...
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None: ...
    def on_batch_begin(self, batch: int, logs: Any = None) -> None: ...
    def on_batch_end(self, batch: int, logs: Any = None) -> None: ...
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None: ...
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...
    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None: ...
    def on_test_batch_end(self, batch: int, logs: Any = None) -> None: ...
    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None: ...
    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None: ...


class RecalibrateBN(_Callback):
    """Recalibrate before each validation of a `fit`, at the end of epochs, and of the training.

    Validation then measures the weights rather than moving statistics that lag behind them, and so
    do checkpoints and early stopping, wherever in the list of callbacks they stand: it runs before
    each of the others, if the weights are not those that it has seen last, as after Keras 3's
    SwapEMAWeights. Training itself goes on as without it, since training mode normalizes by the
    batch.

    `logs` have `bn_off` after each epoch, for CSVLogger, TensorBoard and `history`: how far the
    moving statistics were from those of `ds`, root mean square in standard deviations, at the layer
    that was off most; not a number in epochs without recalibration. Unless `fit` is silent, a line
    says so.

    Args:
        ds: Calibration data, as for `recalibrate`. It is read anew each time, so that a generator,
            which can be read only once, is refused.
        every: Number of epochs from one recalibration to the next; the last epoch always has one.
        **options: Of `recalibrate`; `verbose` is 0 unless given.

    Attributes:
        report: Of the last recalibration; None before the first.

    Raises:
        DataError: `ds` can be read only once, is no calibration data, or never ends.
        OptionError: `every` or one of the options is none of what it may be.

    Examples:
        >>> history = model.fit(x, y, callbacks=[bnfix.callbacks.RecalibrateBN(x)], verbose=0)
        >>> sorted(history.history)
        ['bn_off', 'loss']
    """

    @all_or_nothing()
    def __init__(self, ds: Any, every: int = 1, **options: Any) -> None:
        super().__init__()
        self.ds = ds
        self.every = whole("every", every, at_least=1)
        self.options: dict[str, Any] = {"verbose": 0, **options, "return_report": True}
        self.report: RecalibrationReport | None = None
        self._epoch: int | None = None  # within `fit` only
        self._first: RecalibrationReport | None = None  # of this epoch
        self._seen = ""
        _check_readable(ds, self.options)

    def on_train_begin(self, logs: Any = None) -> None:
        running = calling_list()
        if running is None:
            return
        others = [other for other in running.callbacks if other is not self]
        # Any of them may have changed weights.
        again = [_Between(self._refresh, self._refresh, self.on_train_end) for _ in others[1:]]
        between = [one for pair in zip(others, again, strict=False) for one in pair]
        last = _Between(self._refresh, self._end_epoch, self._end)
        # A new list: the one that calls is being gone through.
        running.callbacks = [self, *between, *others[len(again) :], last]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._first = epoch, None

    def on_test_begin(self, logs: Any = None) -> None:
        self._refresh()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._refresh()
        if logs is not None:
            logs[_OFF] = float("nan") if self._first is None else _worst(self._first).distance

    def on_train_end(self, logs: Any = None) -> None:
        if self._epoch is not None:
            self._recalibrate()

    def _refresh(self) -> None:
        """Recalibrate, if this is an epoch for that and the weights have changed since."""
        if self._epoch is not None and (self._epoch + 1) % self.every == 0:
            self._recalibrate()

    def _end_epoch(self) -> None:
        """Behind all callbacks: one line on what was found, unless `fit` is silent."""
        self._refresh()
        if self._first is not None and self.params.get("verbose"):
            worst = _worst(self._first)
            sys.stdout.write(
                f"RecalibrateBN: statistics were off by up to {worst.distance:.2g} sigma, at "
                f"{worst.path}\n"
            )

    def _end(self) -> None:
        """Behind all callbacks: `fit` has ended."""
        self.on_train_end()
        self._epoch = None

    def _recalibrate(self) -> None:
        if _state(self.model) == self._seen:
            return
        try:
            _, self.report = recalibrate(self.model, self.ds, **self.options)
        except (StatisticsError, WorkerError) as refusal:
            if isinstance(refusal, WorkerError) and refusal.kind != StatisticsError.__name__:
                raise
            if self.options.get("guard") == "raise":
                raise
            warnings.warn(
                f"RecalibrateBN left the statistics as they are, and training goes on: {refusal}",
                BnfixWarning,
                stacklevel=2,
            )
        else:
            self._first = self.report if self._first is None else self._first
        self._seen = _state(self.model)


#: The key in `logs`.
_OFF = "bn_off"


class _Between(_Callback):
    """Between two callbacks of a `fit`, or behind all of them.

    Args:
        test: Run before a validation.
        epoch: Run at the end of an epoch.
        train: Run at the end of the training.
    """

    def __init__(
        self, test: Callable[[], None], epoch: Callable[[], None], train: Callable[[], None]
    ) -> None:
        super().__init__()
        self._test, self._epoch, self._train = test, epoch, train

    def on_test_begin(self, logs: Any = None) -> None:
        self._test()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epoch()

    def on_train_end(self, logs: Any = None) -> None:
        self._train()


def _worst(report: RecalibrationReport) -> LayerStatistics:
    return max(report.layers, key=lambda layer: layer.distance)


class FreezeBN(_Callback):
    """Freeze every BatchNormalization from epoch `at_epoch` on, within the running `fit`.

    As `bnfix.freeze`: moving statistics, gamma and beta stay as they are from then on. The train
    function is made anew, since the old one remembers that they were to be trained. The optimizer
    keeps the slots it has for gamma and beta, and leaves them alone. They are saved as well, and
    Keras 3 then loads the model without its optimizer's state, with a warning; compile again before
    the last epochs where that state is wanted. On JAX `model.optimizer` becomes another, which has
    the state of the old one but for those slots.

    An optimizer that overwrites weights by their average now and then (`ema_overwrite_frequency`)
    still does so with gamma and beta. `RecalibrateBN` goes on with frozen layers too, unless told
    `include_frozen=False`.

    Args:
        at_epoch: From 0; 0 freezes before the first step.
        layers: As for `freeze`: paths or a function of a path; all by default.

    Raises:
        UnsupportedModelError: Keras 3 runs on JAX, and the optimizer cannot be made anew for what
            is left to train, as one whose configuration does not tell all of it. Raised before the
            first step.

    Examples:
        >>> freezing = bnfix.callbacks.FreezeBN(at_epoch=1)
        >>> _ = model.fit(x, y, epochs=2, callbacks=[freezing], verbose=0)
        >>> model.get_layer("bn").trainable
        False
    """

    @all_or_nothing()
    def __init__(self, at_epoch: int, *, layers: Selection = None) -> None:
        super().__init__()
        whole("at_epoch", at_epoch, at_least=0)
        self.at_epoch = at_epoch
        self.layers = layers

    @all_or_nothing()
    def on_train_begin(self, logs: Any = None) -> None:
        if self.model.built:  # what will be refused is refused now, not many epochs later
            with put_back_after(state.settings(self.model)):
                freeze(self.model, layers=self.layers)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch >= self.at_epoch and self._trained():
            freeze(self.model, layers=self.layers)
            self.model.make_train_function(force=True)

    def _trained(self) -> list[str]:
        """Paths of those that are still to be frozen."""
        norms = dict(adapter_of(self.model).batch_norms(self.model))
        chosen = select(self.layers, norms, what="BatchNormalization")
        return [path for path in chosen if norms[path].trainable]


def _check_readable(ds: Any, options: dict[str, Any]) -> None:
    """Find out at the start what would otherwise end a training after its first epoch."""
    inspect.signature(recalibrate).bind(None, ds, **options)
    if isinstance(ds, Iterator):
        raise DataError(
            f"RecalibrateBN reads its data each time anew, and {type(ds).__name__} can be read "
            "only once. Pass arrays, a tf.data.Dataset, a PyDataset or Sequence, or a list of its "
            "batches behind an __iter__ of your own."
        )
    names = {field.name for field in fields(Options)}
    asked = Options(**{name: value for name, value in options.items() if name in names})
    _ = asked.settings  # raises where one is not what it may be
    batches(ds, batch_size=asked.batch_size, steps=asked.steps)


def _state(model: Any) -> str:
    """Tells one state of the weights and statistics of `model` from another."""
    adapter = adapter_of(model)
    return fingerprint(adapter, adapter.weights(model))
