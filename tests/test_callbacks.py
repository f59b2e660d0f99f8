"""RecalibrateBN and FreezeBN within the `fit` of both Kerases; averaged weights on real digits."""

import functools
import itertools
import subprocess
import sys

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix import callbacks
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.fitting import calling_list
from bnfix.callbacks import FreezeBN, RecalibrateBN, _Callback


@functools.cache
def digits():
    """1,400 training and 397 test images (8, 8, 1) in [0, 1], with their digits."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = (images[order] / 16).reshape(-1, 8, 8, 1).astype("float32")
    return x[:1400], labels[order][:1400], x[1400:], labels[order][1400:]


def network(K, blocks=((16, 2), (32, 1), (32, 1), (64, 2))):
    L = K.layers
    K.utils.set_random_seed(0)
    x = inputs = K.Input((8, 8, 1))
    for filters, strides in blocks:
        x = L.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
    x = L.GlobalAveragePooling2D()(x)
    return K.Model(inputs, L.Dense(10, activation="softmax")(x))


def compiled(model, K, *, eagerly=False, **options):
    optimizer = K.optimizers.SGD(0.1, momentum=0.9, **options)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], run_eagerly=eagerly)
    return model


def small(K, *, eagerly=False):
    """Two BNs, for tests of what happens when; `eagerly` saves the tracing."""
    return compiled(network(K, blocks=((4, 2), (4, 2))), K, eagerly=eagerly)


def fitted(model, *callbacks, epochs=3, rows=200, **options):
    x, y, *_ = digits()
    options = {"epochs": epochs, "batch_size": 50, "verbose": 0, "shuffle": False, **options}
    return model.fit(x[:rows], y[:rows], callbacks=list(callbacks), **options)


def validation():
    *_, x, y = digits()
    return x[:50], y[:50]


def of_norms(model):
    """Statistics, gamma and beta."""
    return [np.array(w.numpy()) for layer in zoo.batch_norms(model) for w in layer.weights]


def trained(model):
    """Everything but the statistics."""
    return [np.array(w.numpy()) for w in model.trainable_weights]


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


class Recorder(_Callback):
    """Keeps `look(model)` at the end or begin of each epoch, or at the start of each validation."""

    def __init__(self, look, at="epoch"):
        super().__init__()
        self.look, self.at, self.seen = look, at, []

    def on_epoch_begin(self, epoch, logs=None):
        if self.at == "begin":
            self.seen.append(self.look(self.model))

    def on_epoch_end(self, epoch, logs=None):
        if self.at == "epoch":
            self.seen.append(self.look(self.model))

    def on_test_begin(self, logs=None):
        if self.at == "test":
            self.seen.append(self.look(self.model))


# --- averaged weights, the case in which stale statistics hurt most ------------------------------

#: Two standard errors of an accuracy of 98 % on 397 images.
NOISE = 2 * (0.98 * 0.02 / 397) ** 0.5


def accuracy(model, x, labels):
    return float(np.mean(np.argmax(model.predict(x, verbose=0), axis=-1) == labels))


def test_weights_averaged_by_hand_need_statistics_of_their_own(K):
    x, _, *test = digits()
    model = compiled(network(K), K)
    keep = Recorder(trained)
    fitted(model, keep, epochs=4, rows=1400, batch_size=32)
    last = accuracy(model, *test)

    for weight, values in zip(model.trainable_weights, zip(*keep.seen, strict=True), strict=True):
        weight.assign(np.mean(values, axis=0))
    stale = accuracy(model, *test)
    bnfix.recalibrate(model, x, batch_size=350, verbose=0)
    recalibrated = accuracy(model, *test)

    assert stale < last, (last, stale, recalibrated)
    assert recalibrated >= last - NOISE, (last, stale, recalibrated)


def test_averages_of_keras_3_are_validated_with_statistics_of_their_own():
    K = zoo.keras_module("keras3")
    x, _, *test = digits()

    def run(*callbacks):
        model = compiled(network(K), K, use_ema=True, ema_momentum=0.98)
        as_trained = Recorder(ref.weights_of)  # the averages are swapped out by then
        callbacks = K.callbacks.SwapEMAWeights(), *callbacks, as_trained
        options = {"epochs": 2, "rows": 700, "batch_size": 16, "validation_data": tuple(test)}
        history = fitted(model, *callbacks, **options).history
        final = accuracy(model, *test)
        model.set_weights(as_trained.seen[-1])
        return history, final, accuracy(model, *test)

    stale, stale_at_last, last = run()
    history, final, _ = run(RecalibrateBN(x, batch_size=350))

    assert history["loss"] == stale["loss"], "training went another way"
    for epoch, validated in enumerate(history["val_accuracy"]):
        assert validated > stale["val_accuracy"][epoch], epoch
    assert stale_at_last < last, (last, stale_at_last, final)
    assert min(final, history["val_accuracy"][-1]) >= last - NOISE, (last, final)


# --- RecalibrateBN -------------------------------------------------------------------------------


def is_fresh(model):
    x = digits()[0][:200]
    with adapter_of(model).untouched(model):
        return ref.worst_deviation(model, x) <= 1e-4


def test_statistics_are_fresh_at_each_validation_and_at_the_end(K):
    model, looks = small(K, eagerly=True), [Recorder(is_fresh, at) for at in ("test", "epoch")]
    callback = RecalibrateBN(digits()[0][:200])
    fitted(model, callback, *looks, validation_data=validation())
    assert [look.seen for look in looks] == [[True] * 3, [True] * 3]
    assert is_fresh(model)
    assert len(callback.report.layers) == 2


def test_without_validation_they_are_fresh_when_an_epoch_ends(K):
    model, look = small(K, eagerly=True), Recorder(is_fresh)
    fitted(model, RecalibrateBN(digits()[0][:200]), look)
    assert look.seen == [True] * 3


def test_every_second_epoch_and_the_last_are_recalibrated_on_request(K):
    model, look = small(K, eagerly=True), Recorder(is_fresh)
    fitted(model, RecalibrateBN(digits()[0][:200], every=2), look)
    assert look.seen == [False, True, False]
    assert is_fresh(model)


def test_nothing_is_read_again_while_the_weights_stay_the_same(K):
    class Data:
        read = 0

        def __iter__(self):
            Data.read += 1
            return iter([digits()[0][:200]])

    callback = RecalibrateBN(Data())
    Data.read = 0
    fitted(small(K, eagerly=True), callback, validation_data=validation())
    assert Data.read == 3


def test_training_goes_on_as_without_it(K):
    def run(*callbacks):
        model = small(K)
        functions = Recorder(lambda model: model.train_function)
        told = fitted(model, *callbacks, functions)
        assert len(set(map(id, functions.seen))) == 1, "the train function was made again"
        slots = [np.array(v.numpy() if hasattr(v, "numpy") else v) for v in variables(model)]
        told.history.pop("bn_off", None)
        return told.history, trained(model), slots

    history, weights, slots = run(RecalibrateBN(digits()[0][:200]))
    wanted, plain, plain_slots = run()
    assert same(weights, plain)
    assert same(slots, plain_slots)
    assert history == wanted


def variables(model):
    """Those of the optimizer."""
    held = model.optimizer.variables
    return held() if callable(held) else held


def test_outside_of_fit_it_does_nothing(K):
    model = small(K, eagerly=True)
    before = ref.weights_of(model)
    model.evaluate(*validation(), verbose=0, callbacks=[RecalibrateBN(digits()[0][:200])])
    ref.assert_same_weights(model, before)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((iter([1]),), {}, bnfix.DataError, "can be read only once"),
        (((n for n in ()),), {}, bnfix.DataError, "generator can be read only once"),
        ((None,), {}, bnfix.DataError, "no data was given"),
        (
            (np.zeros((4, 2)),),
            {"every": 0},
            bnfix.OptionError,
            "every must be .* 1; got 0",
        ),
        ((np.zeros((4, 2)),), {"steps": 0}, bnfix.OptionError, "steps must be a whole number"),
        ((np.zeros((4, 2)),), {"batchsize": 2}, TypeError, "batchsize"),
        ((np.zeros((4, 2)),), {"method": "average"}, bnfix.OptionError, "method is 'average'"),
        ((np.zeros((4, 2)),), {"guard": "maybe"}, bnfix.OptionError, "guard is 'maybe'"),
        ((np.zeros((4, 2)),), {"ddof": 2}, bnfix.OptionError, "ddof is 2"),
        ((np.zeros((4, 2)),), {"min_count": 0}, bnfix.OptionError, "min_count must be"),
        ((np.zeros((4, 2)),), {"memory_limit": "x"}, bnfix.OptionError, "memory_limit must be"),
    ],
)
def test_what_would_fail_after_an_epoch_is_refused_at_the_start(arguments, options, error, message):
    with pytest.raises(error, match=message):
        RecalibrateBN(*arguments, **options)


# --- FreezeBN ------------------------------------------------------------------------------------


def test_from_the_epoch_on_statistics_gamma_and_beta_stay_and_the_rest_trains(K):
    model, norms, others = small(K), Recorder(of_norms), Recorder(kernels)
    fitted(model, FreezeBN(at_epoch=2), norms, others, epochs=5, validation_data=validation())
    assert not any(layer.trainable for layer in zoo.batch_norms(model))
    moves = [not same(a, b) for a, b in zip(norms.seen, norms.seen[1:], strict=False)]
    assert moves == [True, False, False, False]
    for old, new in zip(norms.seen[0], norms.seen[1], strict=True):
        assert not np.array_equal(old, new), "all of them should have moved before"
    assert not any(same(a, b) for a, b in zip(others.seen, others.seen[1:], strict=False))


def kernels(model):
    norms = {id(w) for layer in zoo.batch_norms(model) for w in layer.weights}
    return [np.array(w.numpy()) for w in model.trainable_weights if id(w) not in norms]


def test_flags_alone_do_not_freeze_within_a_running_fit(K):
    """The mutant: the train function that exists goes on as if nothing had happened."""
    zoo.tensorflow()  # JAX refuses it, and PyTorch has no such function

    class FlagsOnly(FreezeBN):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch >= self.at_epoch:
                for layer in zoo.batch_norms(self.model):
                    layer.trainable = False

    model, norms = small(K), Recorder(of_norms)
    fitted(model, FlagsOnly(at_epoch=1), norms)
    assert not same(norms.seen[1], norms.seen[2])


def test_only_the_chosen_layers_freeze(K):
    model = small(K, eagerly=True)
    first, second = zoo.batch_norms(model)
    fitted(model, FreezeBN(at_epoch=0, layers=[second.name]), epochs=1)
    assert (first.trainable, second.trainable) == (True, False)
    np.testing.assert_array_equal(second.moving_mean, np.zeros(4))
    assert np.all(np.asarray(first.moving_mean) != 0)


def test_a_path_that_does_not_exist_is_refused_before_the_first_step(K):
    model = small(K, eagerly=True)
    before = ref.weights_of(model)
    with pytest.raises(bnfix.BnfixError, match="no BatchNormalization at 'nowhere'"):
        fitted(model, FreezeBN(at_epoch=9, layers="nowhere"))
    ref.assert_same_weights(model, before)


def test_a_later_fit_stays_frozen_and_trains_with_the_optimizer_as_it_is(K):
    model = small(K)
    fitted(model, FreezeBN(at_epoch=1), epochs=2)
    before, others = of_norms(model), kernels(model)
    fitted(model, epochs=1)
    assert same(of_norms(model), before)
    assert not same(kernels(model), others)
    assert not any(s.cause == "stale_compile" for s in bnfix.diagnose(model).symptoms)


@pytest.mark.parametrize("at_epoch", [-1, 1.5, True])
def test_epochs_that_make_no_sense_are_refused(at_epoch):
    with pytest.raises(bnfix.BnfixError, match="at_epoch must be a whole number of at least 0"):
        FreezeBN(at_epoch)


# --- both ----------------------------------------------------------------------------------------


def test_importing_the_callbacks_imports_no_keras():
    code = (
        "import sys, bnfix; bnfix.callbacks.FreezeBN(1); "
        "print([m for m in ('keras', 'tf_keras', 'tensorflow') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_callback_of_ours_has_every_hook_that_keras_has(K):
    theirs = {name for name in dir(K.callbacks.Callback) if name.startswith(("on_", "set_"))}
    assert theirs <= set(dir(_Callback))
    asked = {name for name in dir(K.callbacks.Callback) if name.startswith("_implements")}
    assert asked <= set(dir(_Callback))


# --- the order of callbacks, and what is told -----------------------------------------------------


def checkpoint(K, folder, **options):
    return K.callbacks.ModelCheckpoint(
        str(folder / "{epoch}.weights.h5"), save_weights_only=True, **options
    )


@pytest.mark.every(3)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_checkpoint_holds_fresh_statistics_whatever_the_order(K, tmp_path, order):
    x, look = digits()[0][:100], Recorder(is_fresh_on(digits()[0][:100]))
    given = [RecalibrateBN(x), checkpoint(K, tmp_path), look]
    model = small(K, eagerly=True)
    fitted(model, *(given[at] for at in order), epochs=2, rows=100)
    assert look.seen == [True, True]
    for epoch in (1, 2):
        model.load_weights(str(tmp_path / f"{epoch}.weights.h5"))
        assert is_fresh_on(x)(model), epoch


def is_fresh_on(x):
    def look(model):
        with adapter_of(model).untouched(model):
            return ref.worst_deviation(model, x) <= 1e-4

    return look


def test_in_the_order_given_a_checkpoint_before_it_would_be_stale(K, monkeypatch):
    """The mutant: callbacks run as they stand."""
    monkeypatch.setattr(callbacks, "calling_list", lambda: None)
    look = Recorder(is_fresh)
    fitted(small(K, eagerly=True), look, RecalibrateBN(digits()[0][:200]), epochs=1)
    assert look.seen == [False]


def test_both_kerases_still_call_hooks_from_a_list_that_can_be_found(K):
    class Finds(_Callback):
        def on_train_begin(self, logs=None):
            self.found = calling_list()

    finds = Finds()
    fitted(small(K, eagerly=True), finds, epochs=1, rows=50)
    assert finds in finds.found.callbacks


def test_averages_are_saved_with_their_statistics_in_any_order(tmp_path):
    K = zoo.keras_module("keras3")
    x = digits()[0][:100]
    for order in itertools.permutations(range(3)):
        swap = K.callbacks.SwapEMAWeights(swap_on_epoch=True)
        given = [checkpoint(K, tmp_path), RecalibrateBN(x), swap]
        model = compiled(network(K, blocks=((4, 2),)), K, eagerly=True, use_ema=True)
        look = Recorder(is_fresh_on(x))
        fitted(model, *(given[at] for at in order), look, epochs=1, rows=100)
        assert look.seen == [True]
        assert is_fresh_on(x)(model)


def test_early_stopping_restores_weights_with_their_statistics(K):
    x = digits()[0][:100]
    stop = K.callbacks.EarlyStopping("loss", mode="max", patience=1, restore_best_weights=True)
    model = small(K, eagerly=True)
    ended = fitted(model, stop, RecalibrateBN(x), epochs=4, rows=100)
    assert len(ended.epoch) == 2, "the loss falls, and was to rise"
    assert is_fresh_on(x)(model)


class Interrupted(Exception):
    pass


class Interrupts(_Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise Interrupted


def test_what_was_interrupted_goes_on_with_fresh_statistics_in_either_order(K, tmp_path):
    x = digits()[0][:100]
    for order in (1, -1):

        def given(order=order):
            backup = K.callbacks.BackupAndRestore(str(tmp_path / str(order)))
            stop = K.callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True)
            return [RecalibrateBN(x), backup, stop][::order]

        with pytest.raises(Interrupted):
            fitted(small(K, eagerly=True), *given(), Interrupts(), epochs=2, rows=100)
        model = small(K, eagerly=True)
        begins = Recorder(is_fresh_on(x), at="begin")
        ran = fitted(model, *given(), begins, epochs=2, rows=100)
        assert ran.epoch == [1], "the first epoch is behind it"
        assert begins.seen == [True], order
        assert is_fresh_on(x)(model), order


def test_how_far_statistics_were_off_is_in_the_logs_and_on_one_line(K, tmp_path, capsys):
    x, table = digits()[0][:100], tmp_path / "log.csv"
    callback = RecalibrateBN(x, every=2)
    given = [K.callbacks.CSVLogger(str(table)), callback]
    ended = fitted(small(K, eagerly=True), *given, epochs=2, rows=100, verbose=2)
    first, second = ended.history["bn_off"]
    assert np.isnan(first)
    assert second == max(layer.distance for layer in callback.report.layers) > 0
    assert "bn_off" in table.read_text()
    told = [line for line in capsys.readouterr().out.splitlines() if "RecalibrateBN" in line]
    assert len(told) == 1
    assert f"off by up to {second:.2g} sigma, at" in told[0]
    fitted(small(K, eagerly=True), *given, epochs=1, rows=100)
    assert "RecalibrateBN" not in capsys.readouterr().out
