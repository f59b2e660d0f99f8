"""The lockstep engine: exact statistics for models without a graph, and no thread left behind."""

import _thread
import threading
import time

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters import weights
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.subject import Subject
from bnfix.data.batches import batches
from bnfix.recalibration import lockstep
from bnfix.recalibration.lockstep import LockstepEngine
from bnfix.recalibration.meeting import Meeting
from bnfix.tree import map_leaves

EXACT = 1e-4  # of a standard deviation, in float32
IMAGE = (8, 8, 3)

# A BN in each is called on a result of its own.
CHAINED = {"shared_bn", "composite_layer_called_twice"}
HIDDEN = {"subclassed", "opaque_bn"}
BY_NAME = {entry.name: entry for entry in zoo.MODELS}


def cases(names=None):
    def where(entry, dialect):
        told = entry.name in names if names else HIDDEN & entry.tags_in(dialect)
        return bool(told) and (names == CHAINED or entry.name not in CHAINED)

    return zoo.cases(having={"bn"}, where=where)


def measured(model, x, *, batch_size=5, engine=LockstepEngine, norms=None, **options):
    """The engine after it has run over `x`, and that it has left nothing behind."""
    adapter = adapter_of(model)
    norms = dict(adapter.batch_norms(model)) if norms is None else norms
    advance = options.pop("advance", lambda: None)
    given = {"meeting": Meeting(), "patience": 30, **options}
    found = engine(Subject.of(model), norms, ddof=0, **given)
    fed = [map_leaves(adapter.fed, b.x) for b in batches(x, batch_size=batch_size)]
    before, threads, calls = ref.weights_of(model), threading.enumerate(), own_calls(adapter, model)
    try:
        with adapter.preserved(model):
            found.run(fed, advance)
    finally:
        assert threading.enumerate() == threads
        assert own_calls(adapter, model) == calls
        ref.assert_same_weights(model, before)
    return found


def own_calls(adapter, model):
    """What stands in front of a layer's class; tf_keras's operators have such a `call`."""
    return [vars(layer).get("call") for layer in adapter.callables(model)]


def recalibrated(model, x, **options):
    """As `measured`; what was found is written into the model."""
    found = measured(model, x, **options)
    for path, layer in adapter_of(model).batch_norms(model):
        moments = found.moments[path]
        weights.write_statistics(layer, moments.mean, moments.variance())
    return found


def images(rows=12, shape=IMAGE, seed=1):
    return np.random.default_rng(seed).gamma(2.0, 1.0, (rows, *shape)).astype("float32")


def model_of(K, call, x, **layers):
    """A subclassed model with `layers`, whose `call(self, x)` is given, built on `x`."""

    class Model(K.Model):
        def __init__(self):
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer)

        def call(self, inputs, training=None):
            return call(self, inputs)

    K.utils.set_random_seed(0)
    model = Model()
    model(map_leaves(lambda array: array[:2], x))
    zoo.randomise_batch_norms(model, 0)
    return model


def adapter_dialect(K):
    return "keras3" if K.__name__ == "keras" else "tf_keras"


def bn(K, name="bn"):
    return K.layers.BatchNormalization(name=name)


# --- exactness -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("entry", "dialect"), cases())
def test_every_bn_gets_the_population_statistics_of_its_own_inputs(entry, dialect):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=12)
    assert ref.worst_deviation(model, x) > 0.01, "random statistics should be wrong at first"
    recalibrated(model, x)
    assert ref.worst_deviation(model, x) <= EXACT


GRAPHS = {
    "nested_called_twice",
    "bn_renorm",
    "bn_virtual_batches",
    "bn_subclass",
    "mixed_float16",
    "float64",
    "masking_lstm",
    "mask_given_by_hand",
    "baked_in_one_of_two_calls",
}


@pytest.mark.every(2)
@pytest.mark.parametrize(("entry", "dialect"), cases(GRAPHS))
def test_what_it_finds_is_what_the_graph_engine_finds(entry, dialect):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=12)
    found = measured(model, x, batch_size=5)
    _, report = bnfix.recalibrate(model, x, batch_size=5, min_count=1, return_report=True)
    norms = dict(adapter_of(model).batch_norms(model))
    assert found.moments.keys() == norms.keys()
    for layer in report.layers:
        moments = found.moments[layer.path]
        assert moments.count == layer.count
        pair, wanted = (moments.mean, moments.variance()), (layer.mean, layer.variance)
        half = norms[layer.path].compute_dtype == "float16"
        assert ref.deviation(norms[layer.path], pair, wanted) <= (5e-3 if half else EXACT)


def test_the_size_of_batches_does_not_matter(K, dialect):
    x = images(24)
    model = zoo.build(BY_NAME["subclassed_lists_and_dicts"], dialect)
    whole = measured(model, x, batch_size=24)
    for batch_size in (1, 7):
        found = measured(model, x, batch_size=batch_size)
        for path, layer in adapter_of(model).batch_norms(model):
            a, b = found.moments[path], whole.moments[path]
            assert a.count == b.count
            apart = ref.deviation(layer, (a.mean, a.variance()), (b.mean, b.variance()))
            assert apart <= EXACT


class EachBatchOnItsOwn(LockstepEngine):
    """What other tools do: nothing waits, so that each batch is normalized by itself."""

    def run(self, fed, advance):
        parts = []
        for batch in fed:
            super().run([batch], advance)
            parts.append(self.moments)
        self.moments = {p: lockstep.pool([part[p] for part in parts]) for p in self.norms}


class FirstPassOnly(LockstepEngine):
    """Takes the answers that the first of several calls was given for good."""

    def run(self, fed, advance):
        calls = self._pass(fed, {}, advance).calls
        self.moments = {path: lockstep.pool(calls[path]) for path in self.norms}


@pytest.mark.parametrize("mutant", [EachBatchOnItsOwn, FirstPassOnly])
def test_the_law_rejects_known_wrong_estimators(K, mutant):
    model = siamese(K)
    x = two_kinds_of_images()
    recalibrated(model, x, engine=mutant)
    assert ref.worst_deviation(model, x) > 10 * EXACT


# --- several calls -------------------------------------------------------------------------------


def siamese(K):
    """An encoder on two inputs of very different scale; neither call feeds the other."""
    L = K.layers
    x = inputs = K.Input(IMAGE)
    for _ in range(4):
        x = L.ReLU()(bn(K, None)(L.Conv2D(4, 3, padding="same")(x)))
    return model_of(
        K,
        lambda self, x: self.encoder(x["left"]) - self.encoder(x["right"]),
        two_kinds_of_images(),
        encoder=K.Model(inputs, x),
    )


def two_kinds_of_images():
    return {"left": images(), "right": 30 * images(seed=2) - 50}


def test_calls_of_one_bn_pool_exactly_where_none_feeds_another(K):
    model, x = siamese(K), two_kinds_of_images()
    found = recalibrated(model, x)
    assert ref.worst_deviation(model, x) <= EXACT
    assert found.notes == ()
    assert {moments.count for moments in found.moments.values()} == {2 * 12 * 64}


@pytest.mark.parametrize(("entry", "dialect"), cases(CHAINED))
def test_calls_that_feed_each_other_are_told_and_agree_with_what_they_lead_to(entry, dialect):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=12)
    found = recalibrated(model, x)
    assert "is called on a result of its own" in found.notes[0]
    assert ref.worst_deviation(model, x) <= EXACT


def test_statistics_that_do_not_come_to_agree_are_told_with_how_far_they_are_off(K, monkeypatch):
    monkeypatch.setattr(lockstep, "_MORE_PASSES", 1)
    model = zoo.build(BY_NAME["shared_bn"], adapter_dialect(K))
    note = measured(model, zoo.inputs_for(model, rows=12)).notes[0]
    assert "still differ from those of what reaches it by" in note


def test_passes_are_those_that_suffice_where_no_call_feeds_another_and_a_few_more(K, monkeypatch):
    """One, one more for each BN that is called several times, and here one beyond these."""
    passes = []
    monkeypatch.setattr(lockstep, "_MORE_PASSES", 1)
    monkeypatch.setattr(
        lockstep, "_Pass", lambda *a, made=lockstep._Pass: passes.append(a) or made(*a)
    )
    x = images()
    layers = {"one": bn(K, "one"), "two": bn(K, "two")}
    model = model_of(K, lambda s, x: s.two(s.two(s.one(x)) ** 2), x, **layers)
    (note,) = measured(model, x).notes
    assert len(passes) == 3
    assert "two is called on a result of its own" in note
    assert "after 3 passes" in note
    passes.clear()
    model = model_of(K, lambda s, x: s.two(s.one(x)), x, one=bn(K, "one"), two=bn(K, "two"))
    assert measured(model, x).notes == ()
    assert len(passes) == 1


def test_steps_are_taken_in_part_where_calls_feed_each_other_and_only_after_enough_passes(
    K, monkeypatch
):
    """Whole steps are exact, in fewer passes, where they do not swing."""
    passes, parts = [], []
    monkeypatch.setattr(
        lockstep, "_Pass", lambda *a, made=lockstep._Pass: passes.append(a) or made(*a)
    )
    monkeypatch.setattr(
        lockstep, "partway", lambda *a, made=lockstep.partway: parts.append(len(passes)) or made(*a)
    )
    x = images()
    layers = {"one": bn(K, "one"), "two": bn(K, "two")}
    model = model_of(K, lambda s, x: s.two(s.one(x)) + s.two(s.one(-x) ** 2), x, **layers)
    assert measured(model, x).notes == ()
    assert len(passes) == 2
    assert parts == []
    passes.clear()
    model = model_of(K, lambda s, x: s.two(s.two(s.one(x)) ** 2), x, **layers)
    measured(model, x)
    assert parts == [*range(3, len(passes) + 1)]


def test_every_step_of_a_loop_over_time_counts_once(K):
    """Both Kerases run the first step once more before the loop, to see its shape."""

    class Cell(K.layers.Layer):
        state_size = output_size = 3

        def __init__(self):
            super().__init__(name="cell")
            self.norm = bn(K)

        def build(self, shape):
            self.norm.build(shape)
            self.built = True

        def call(self, inputs, states, training=None):
            return self.norm(inputs, training=training), states

    x = np.random.default_rng(0).normal(size=(12, 6, 3)).astype("float32")
    x[:, 0] += 5
    model = model_of(K, lambda self, x: self.rnn(x), x, rnn=K.layers.RNN(Cell(), name="rnn"))
    found = measured(model, x).moments["rnn/cell/bn"]
    assert found.count == 12 * 6
    np.testing.assert_allclose(found.mean, x.mean(axis=(0, 1)), atol=1e-5)
    assert not model.rnn.unroll


# --- what models do inside -----------------------------------------------------------------------


def test_masks_are_honoured_and_a_fully_masked_batch_contributes_nothing(K):
    x = np.random.default_rng(0).normal(3, 2, (12, 6, 2)).astype("float32")
    x[:5] = 0  # the whole first batch
    x[5:, 4:] = 0
    layers = {"mask": K.layers.Masking(), "bn": bn(K), "last": bn(K, "last")}
    model = model_of(K, lambda self, x: self.last(self.bn(self.mask(x))), x[5:], **layers)
    found = measured(model, x)
    assert [moments.count for moments in found.moments.values()] == [28, 28]
    np.testing.assert_allclose(found.moments["bn"].mean, x[5:, :4].mean(axis=(0, 1)), atol=1e-5)


def test_training_true_written_into_a_call_is_overruled_for_what_is_measured(K):
    x = images()
    layers = {"one": bn(K, "one"), "two": bn(K, "two")}
    model = model_of(
        K, lambda s, x: s.two(s.one(x, training=True) ** 2, training=True), x, **layers
    )
    batch_by_batch, whole = measured(model, x, batch_size=3), measured(model, x, batch_size=12)
    for path in ("one", "two"):
        a, b = batch_by_batch.moments[path], whole.moments[path]
        np.testing.assert_allclose(a.mean, b.mean, rtol=1e-5)
        np.testing.assert_allclose(a.variance(), b.variance(), rtol=1e-5)


def test_functions_that_the_model_compiles_are_seen_into(K):
    tf = zoo.tensorflow()

    @tf.function
    def body(self, x):
        return self.two(tf.nn.relu(self.one(x)))

    x = images()
    model = model_of(K, body, x, one=bn(K, "one"), two=bn(K, "two"))
    recalibrated(model, x)
    assert ref.deviation(model.one, ref.statistics(model.one), population(x)) <= EXACT
    assert not tf.config.functions_run_eagerly()


def population(x):
    rows = x.reshape(-1, x.shape[-1]).astype("float64")
    return rows.mean(axis=0), rows.var(axis=0)


def test_layers_made_within_a_call_have_the_policy_of_the_caller():
    K = zoo.keras_module("keras3")
    seen = []

    def call(self, x):
        seen.append(K.layers.ReLU().compute_dtype)
        return self.bn(x)

    x = images()
    model = model_of(K, call, x, bn=bn(K))
    seen.clear()
    K.config.set_dtype_policy("mixed_bfloat16")
    try:
        measured(model, x)
    finally:
        K.config.set_dtype_policy("float32")
    assert seen == ["bfloat16"] * 3


def test_only_the_chosen_layers_are_measured_and_others_run_as_they_are(K):
    x = images()
    layers = {"one": bn(K, "one"), "two": bn(K, "two")}
    model = model_of(K, lambda self, x: self.two(self.one(x)), x, **layers)
    found = measured(model, x, norms={"two": model.two}).moments
    assert list(found) == ["two"]
    wanted = population(ref.inferred(model.one, x)[0])
    assert ref.deviation(model.two, (found["two"].mean, found["two"].variance()), wanted) <= EXACT


# --- what it refuses, with no thread left waiting ------------------------------------------------


def refused(model, x, error, message, **options):
    with pytest.raises(error, match=message) as caught:
        measured(model, x, **options)
    return caught.value


def told_apart(x):
    """Batches of 5 whose first value says which they are."""
    x[5:, 0, 0, 0] = 100.0
    return x


def is_later(x):
    return float(x[0, 0, 0, 0]) == 100.0


def test_batches_that_take_different_ways_are_refused(K):
    layers = {"one": bn(K, "one"), "two": bn(K, "two")}
    model = model_of(
        K, lambda s, x: s.two(s.one(x)) if is_later(x) else s.one(s.two(x)), images(), **layers
    )
    message = "batch 0 came to two where batch 1 came to one"
    error = refused(model, told_apart(images()), bnfix.ModelError, message)
    assert error.path == "two"


def test_a_batch_that_ends_early_is_refused(K):
    layers = {"one": bn(K, "one"), "two": bn(K, "two")}
    model = model_of(
        K, lambda s, x: s.one(x) if is_later(x) else s.two(s.one(x)), images(), **layers
    )
    message = "batch 0 came to two where batch 1 ended"
    refused(model, told_apart(images()), bnfix.ModelError, message)


def test_a_bn_that_is_never_reached_is_left_out_and_named(K):
    layers = {"one": bn(K, "one"), "two": bn(K, "two")}
    model = model_of(
        K, lambda s, x: s.two(s.one(x)) if len(x) == 2 else s.one(x), images(), **layers
    )
    before = ref.statistics(layers["two"])
    _, report = bnfix.recalibrate(
        model, images(15), batch_size=5, guard=False, verbose=0, return_report=True
    )
    assert [layer.path for layer in report.layers] == ["one"]
    assert any("two is not called" in note for note in report.notes)
    np.testing.assert_array_equal(ref.statistics(layers["two"]), before)
    message = r"two is not called.*batches 0 to 2\), nor is any other"
    with pytest.raises(bnfix.ModelError, match=message):
        bnfix.recalibrate(model, images(15), batch_size=5, layers="two", guard=False, verbose=0)


def test_a_bn_that_nothing_calls_is_no_obstacle(K):
    """Detectors make layers for every level, and call some."""

    class Detector(K.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = bn(K, "one"), bn(K, "two")

        def call(self, x, training=None):
            return self.one(x, training=training)

    model = Detector()
    model(images())
    _, report = bnfix.recalibrate(model, images(15), guard=False, verbose=0, return_report=True)
    assert [layer.path for layer in report.layers] == ["one"]
    assert any("two has never been called" in note for note in report.notes)
    assert bnfix.diagnose(model, images(15)).layers


def test_one_that_is_called_but_left_out_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(lockstep, "unreached", lambda norms, reached, batches: ())
    with pytest.raises(AssertionError):
        test_a_bn_that_is_never_reached_is_left_out_and_named(K)


class Fails(Exception):
    """Something that no one expects."""


def failing(K, error):
    """A layer between two BNs that raises `error` in the second batch."""

    class Fuse(K.layers.Layer):
        def call(self, inputs):
            if is_later(inputs):
                raise error
            return inputs

    layers = {"one": bn(K, "one"), "fuse": Fuse(name="fuse"), "two": bn(K, "two")}
    return model_of(K, lambda s, x: s.two(s.fuse(x) + s.one(x)), images(), **layers)


def test_a_layer_that_raises_is_named_with_its_batch(K):
    model = failing(K, Fails("blown"))
    message = "fuse raised Fails: blown on batch 1 of the calibration data"
    error = refused(model, told_apart(images()), bnfix.ModelError, message)
    assert isinstance(error.__cause__, Fails)
    assert error.path == "fuse"


def test_an_interrupt_within_a_batch_passes_as_itself(K):
    with pytest.raises(KeyboardInterrupt):
        measured(failing(K, KeyboardInterrupt()), told_apart(images()))


def test_an_interrupt_between_batches_passes_as_itself(K):
    def interrupt():
        raise KeyboardInterrupt

    model = zoo.build(BY_NAME["subclassed_lists_and_dicts"], adapter_dialect(K))
    with pytest.raises(KeyboardInterrupt):
        measured(model, images(), advance=interrupt)


def test_an_interrupt_while_waiting_for_a_batch_passes_as_itself(K):
    def call(self, x):
        if is_later(x):
            _thread.interrupt_main()
            time.sleep(0.2)
        return self.two(self.one(x))

    model = model_of(K, call, images(), one=bn(K, "one"), two=bn(K, "two"))
    with pytest.raises(KeyboardInterrupt):
        measured(model, told_apart(images()))


def test_a_model_that_waits_for_another_batch_is_refused_in_time(K):
    lock = threading.Lock()

    def call(self, x):
        with lock:
            return self.two(self.one(x))

    model = model_of(K, call, images(), one=bn(K, "one"), two=bn(K, "two"))
    message = "batch 1 came neither to a BatchNormalization nor to its end within 0.5 seconds"
    refused(model, images(), bnfix.ModelError, message, patience=0.5)


def test_a_model_that_catches_everything_cannot_keep_its_thread(K):
    def call(self, x):
        for _ in range(3):
            try:
                return self.two(self.one(x))
            except BaseException:
                continue
        return x

    def interrupt():
        raise KeyboardInterrupt

    model = model_of(K, call, images(), one=bn(K, "one"), two=bn(K, "two"))
    with pytest.raises(KeyboardInterrupt):
        measured(model, images(), advance=interrupt)


def test_values_that_are_not_finite_are_refused_with_layer_and_batch(K):
    x = images()
    x[6, 0, 0, 1] = np.inf
    model = model_of(K, lambda s, x: s.two(s.one(x)), images(), one=bn(K, "one"), two=bn(K, "two"))
    message = "one: 1 of 3 channels have a mean or variance that is not finite in batch 1"
    error = refused(model, x, bnfix.StatisticsError, message)
    assert error.path == "one"


def test_a_bn_that_sees_masked_values_only_is_refused(K):
    x = np.random.default_rng(0).normal(3, 2, (12, 6, 2)).astype("float32")
    model = model_of(K, lambda s, x: s.bn(s.mask(x)), x, mask=K.layers.Masking(), bn=bn(K))
    refused(model, 0 * x, bnfix.StatisticsError, "bn saw 0 values per channel")


def test_a_bn_in_code_that_runs_without_values_is_refused(K):
    tf = zoo.tensorflow()

    def call(self, x):
        return tf.vectorized_map(lambda row: self.bn(row[None])[0], x)

    model = model_of(K, call, images(), bn=bn(K))
    refused(model, images(), bnfix.ModelError, "bn is called while the model compiles")


def test_several_axes_are_refused():
    K = zoo.keras_module("tf_keras")
    norm = K.layers.BatchNormalization(axis=[1, 3], name="bn")
    model = model_of(K, lambda s, x: s.bn(x), images(), bn=norm)
    refused(model, images(), bnfix.StatisticsError, "bn normalizes over several axes at once")


def test_more_batches_than_the_system_has_threads_for_are_refused(K, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    model = model_of(K, lambda s, x: s.bn(x), images(), bn=bn(K))
    monkeypatch.setattr(threading.Thread, "start", start)
    refused(model, images(), bnfix.DataError, "3 batches need a thread each")
