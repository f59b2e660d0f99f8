"""check: coupled models are found and named, calm ones are not, and nothing is changed."""

import gc
import weakref
from importlib.util import find_spec

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.backends import tensorflow, tensorflow_calls
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.subject import Subject
from bnfix.checks import localise, probes

BY_NAME = {entry.name: entry for entry in zoo.MODELS}
#: What inference does there is worth a finding: rows mixed by hand, a `training` that is not passed
# on.
NOT_CALM = {
    "keras_ops_normalize_by_hand": "batch_coupling",
    "tf_normalizes_by_hand": "batch_coupling",
    "image_pipeline": "training_by_default",
    # Where width and channels are equal, `keras.ops.add` takes a bias of one for that of the other,
    # but only outside of compiled code.
    "foreign_axis_channels_first": "entry_points_disagree",
}
#: What older Kerases do right.
SINCE = {"foreign_axis_channels_first": pytest.mark.since(keras3="3.15")}
# `predict` is traced for each model: a second each.
QUICK = {
    "conv_bn",
    "multi_input_list",
    "three_deep",
    "nested_called_twice",
    "subclassed_lists_and_dicts",
    "time_distributed_bn",
    "embedding_mask_zero",
    "text_vectorization",
    "tabular",
    "mixed_float16",
    "mixed_bfloat16",
    "float64_global",
    "no_batch_norm",
    "no_weights_at_all",
    "sequential_deferred",
    "bn_subclass",
}
CALM = zoo.cases(
    lacking={"baked"},
    where=lambda entry, _: entry.name not in NOT_CALM,
    quick=lambda entry, _: entry.name in QUICK,
)


@pytest.mark.every(5)
@pytest.mark.parametrize(("entry", "dialect"), CALM)
def test_a_calm_model_passes_and_is_left_as_it_was(entry, dialect):
    model = zoo.build(entry, dialect)
    adapter = adapter_of(model)
    before = [adapter.copy_value(v) for v in adapter.variables(model)]
    report = bnfix.check(model, zoo.inputs_for(model, rows=6))
    assert report.ok, str(report)
    assert report.ok
    assert report.culprit is None
    assert {f.cause for f in report.findings} <= {"rounding"}
    assert report.coupling <= report.tolerance
    for variable, value in zip(adapter.variables(model), before, strict=True):
        np.testing.assert_array_equal(adapter.copy_value(variable), value)
    assert not any(
        "call" in vars(layer) for _, layer in adapter.tree(model) if adapter.is_batch_norm(layer)
    )


def baked(K, depth=0):
    """Conv-BN twice, the BNs baked, wrapped into `depth` models."""
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input((6, 6, 2))
    x = L.BatchNormalization(name="calm")(L.Conv2D(3, 3)(inputs))
    x = L.BatchNormalization(name="first")(L.ReLU()(x), training=True)
    x = L.BatchNormalization(name="second")(L.Conv2D(3, 3)(x), training=True)
    model = K.Model(inputs, L.GlobalAveragePooling2D()(x), name="level0")
    for level in range(depth):
        inputs = K.Input((6, 6, 2))
        model = K.Model(inputs, model(inputs), name=f"level{level + 1}")
    zoo.randomise_batch_norms(model, 0)
    return model


def images(rows=8):
    return np.random.default_rng(0).normal(size=(rows, 6, 6, 2)).astype("float32")


EVERYWHERE = {
    "keras3": {"call", *zoo.COMPILED},
    "tf_keras": {"predict", "call", *zoo.COMPILED},
}


@pytest.mark.every(2)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_baked_bn_is_named_with_its_full_path_at_the_entry_points_it_shows_at(dialect, depth):
    model = baked(zoo.keras_module(dialect), depth)
    report = bnfix.check(model, images())
    prefix = "".join(f"level{level}/" for level in reversed(range(depth)))
    assert not report.ok
    assert report.culprit == f"{prefix}first"
    first, second = report.findings[:2]
    assert (first.cause, second.cause) == ("batch_statistics", "batch_statistics")
    assert second.path == f"{prefix}second"
    assert set(first.entry_point.split(", ")) == EVERYWHERE[dialect]
    assert "bnfix.strip_training(model)" in first.fix
    assert report.coupling > 100 * report.tolerance


def test_inference_that_overwrites_weights_is_found_and_undone(dialect):
    model = baked(zoo.keras_module(dialect))
    before = ref.weights_of(model)
    report = bnfix.check(model, images())
    ref.assert_same_weights(model, before)
    changed = [f for f in report.consequences if f.cause == "inference_changes_weights"]
    assert {f.cause for f in report.findings} == {"batch_statistics"}
    assert [f.path for f in changed] == ["first", "second"]
    by_point = {m.entry_point: bool(m.changed) for m in report.measurements}
    assert {point for point, did in by_point.items() if did} == EVERYWHERE[dialect]


def test_entry_points_that_disagree_are_found_where_predict_is_right():
    model = baked(zoo.keras_module("keras3"))
    report = bnfix.check(model, images())
    found = [f for f in report.consequences if f.cause == "entry_points_disagree"]
    assert [f.path for f in found] == ["first"]


@pytest.mark.every(2)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SINCE.get(name, ())) for name in sorted(NOT_CALM)]
)
def test_what_mixes_rows_or_modes_without_a_baked_bn_is_found(name):
    if NOT_CALM[name] == "entry_points_disagree":
        zoo.tensorflow()
    model = zoo.build(BY_NAME[name], sorted(BY_NAME[name].dialects)[0])
    report = bnfix.check(model, zoo.inputs_for(model, rows=6))
    assert NOT_CALM[name] in {finding.cause for finding in report.findings}


def test_a_layer_of_ones_own_that_mixes_rows_is_named(K):
    class Centre(K.layers.Layer):
        def call(self, inputs):
            total = sum(inputs[i] for i in range(inputs.shape[0])) if inputs.shape[0] else inputs[0]
            return inputs - total

        def compute_output_shape(self, input_shape):  # which on JAX counts no rows
            return input_shape

    inputs = K.Input((3,))
    x = K.layers.Dense(4)(inputs)
    model = K.Model(inputs, K.layers.Dense(2)(Centre(name="centre")(x)))
    report = bnfix.check(model, np.random.default_rng(0).normal(size=(6, 3)))
    causes = {(f.path, f.cause) for f in report.findings if f.cause == "batch_coupling"}
    assert causes == {("centre", "batch_coupling")}


def test_a_bn_inside_a_layer_of_ones_own_is_named(K):
    class Block(K.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.norm = K.layers.BatchNormalization(name="norm")

        def build(self, shape):
            self.norm.build(shape)

        def call(self, inputs):
            return self.norm(inputs, training=True)

    inputs = K.Input((3,))
    model = K.Model(inputs, Block(name="block")(K.layers.Dense(4)(inputs)))
    report = bnfix.check(model, np.random.default_rng(0).normal(size=(6, 3)))
    assert report.culprit == "block/norm"
    assert report.findings[0].cause == "batch_statistics"
    assert "bnfix.freeze" in report.findings[0].fix


def test_the_fix_that_is_shown_is_for_all_layers_that_are_named_above_it(K):
    """It was for the first; the second went on with the statistics of the batch."""

    class Own(K.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.bn = K.layers.BatchNormalization(name="bn")
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")  # stays closed

        def call(self, x):
            return self.bn(x, training=True) * self.scale

    inputs = K.Input((6,))
    model = K.Model(inputs, Own(name="b")(K.layers.ReLU()(Own(name="a")(inputs))))
    x = zoo.inputs_for(model, rows=8)
    report = bnfix.check(model, x)
    assert [found.path for found in report.findings] == ["a/bn", "b/bn"]
    (fix,) = [line for line in str(report).splitlines() if line.strip().startswith("fix:")]
    names = {"bnfix": bnfix, "model": model}
    exec(fix.strip().removeprefix("fix:").strip(), names)
    assert bnfix.check(names["model"], x).ok, fix


def test_dropout_that_is_on_at_inference_is_called_random(K):
    inputs = K.Input((30,))
    x = K.layers.Dropout(0.5)(K.layers.BatchNormalization()(inputs), training=True)
    report = bnfix.check(K.Model(inputs, x), np.ones((6, 30)) + np.eye(6, 30))
    assert "randomness" in {finding.cause for finding in report.findings}
    assert not report.ok


def test_rounding_between_batch_sizes_is_no_fault(K):
    K.utils.set_random_seed(0)
    model = K.Sequential([K.Input((400,)), K.layers.Dense(300), K.layers.Dense(300)])
    report = bnfix.check(model, np.random.default_rng(0).normal(size=(8, 400)))
    assert report.ok
    assert 0 < report.max_difference <= report.tolerance
    assert [f.cause for f in report.findings] == ["rounding"]
    assert report.culprit is None
    assert all(finding.fix.startswith("nothing is wrong") for finding in report.findings)


def test_the_report_reads_well(K):
    text = str(bnfix.check(baked(K), images()))
    assert text.startswith("check: NOT ok, batch_statistics in first")
    assert "fix: model = bnfix.strip_training(model)" in text
    assert "2 layers changed" in text
    assert "ok, row 0 does not depend on its 7 neighbours" in str(
        bnfix.check(bnfix.freeze(baked(K)), images())
    )


@pytest.mark.every(2)
@pytest.mark.parametrize(
    "make",
    [
        lambda x: (x, np.zeros(8)),
        lambda x: iter([x[:1], x[1:2], x[2:]]),
        lambda x: [x],
    ],
    ids=["x and y", "batches of one", "list"],
)
def test_inputs_come_in_every_form_that_fit_takes(K, make):
    assert bnfix.check(baked(K), make(images())).culprit == "first"


def test_a_fixed_batch_size_is_kept_to_and_said_so(K):
    inputs = (
        K.Input(batch_shape=(4, 3)) if K.__name__ == "keras" else K.Input(batch_size=4, shape=(3,))
    )
    model = K.Model(inputs, K.layers.BatchNormalization(name="bn")(inputs, training=True))
    report = bnfix.check(model, np.random.default_rng(0).normal(size=(9, 3)))
    assert report.culprit == "bn"
    assert "batches of 4 only" in report.notes[0]


def test_equal_rows_are_pointed_out(K):
    report = bnfix.check(baked(K), np.ones((8, 6, 6, 2)))
    assert "all rows of x are equal" in report.notes[0]


# --- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 6, 6, 2)), "at least two rows.*got 1"),
        (np.zeros((0, 6, 6, 2)), "x is empty"),
        (np.zeros((8, 6, 6, 3)), r"got shape \(8, 6, 6, 3\); the model takes \(any, 6, 6, 2\)"),
        (np.full((8, 6, 6, 2), np.nan), "not finite"),
        (None, "no data was given"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(K, x, message):
    model = baked(K)
    before = ref.weights_of(model)
    with pytest.raises(bnfix.DataError, match=message):
        bnfix.check(model, x)
    ref.assert_same_weights(model, before)


def test_what_is_no_built_model_is_refused(K):
    with pytest.raises(bnfix.UnsupportedModelError, match=r"got builtins.int"):
        bnfix.check(3, images())
    with pytest.raises(bnfix.UnsupportedModelError, match=r"never seen an input shape"):
        bnfix.check(K.Sequential([K.layers.Dense(3)]), images())


def test_a_model_that_fails_is_named_with_its_entry_point_and_left_as_it_was(K):
    class Fails(K.layers.Layer):
        def call(self, inputs):
            if inputs.shape[0] is not None:
                raise RuntimeError("no such kernel")
            return inputs

        def compute_output_shape(self, input_shape):
            return input_shape

    inputs = K.Input((3,))
    model = K.Model(inputs, Fails()(K.layers.BatchNormalization()(inputs, training=True)))
    before = ref.weights_of(model)
    with pytest.raises(bnfix.ModelError, match=r"through (predict|call): .*no such kernel"):
        bnfix.check(model, np.zeros((4, 3)) + np.arange(3))
    ref.assert_same_weights(model, before)


def test_a_layer_that_fails_while_it_is_watched_gives_no_raw_error(K):
    calls = []

    class Flaky(K.layers.Layer):
        def call(self, inputs):
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError("out of luck")
            return inputs

    inputs = K.Input((3,))
    model = K.Model(inputs, Flaky()(K.layers.BatchNormalization()(inputs, training=True)))
    x = np.arange(12.0).reshape(4, 3)
    calls.clear()
    trace = localise.Trace(Subject.of(model), probes.Probes(x, 4, x[:1]), None)
    with pytest.raises(bnfix.ModelError, match=r"while its layers were watched: .*out of luck"):
        trace.by_batch_statistics(frozenset())


# --- shown able to fail --------------------------------------------------------------------------


def test_the_laws_reject_a_check_that_permutes_neighbours_instead_of_replacing_them(K, monkeypatch):
    """Statistics over the batch do not see an order, so permuting rows shows nothing."""
    same_rows = property(lambda self: np.concatenate([self.x[:1], self.x[-2:0:-1], self.x[-1:]]))
    monkeypatch.setattr(probes.Probes, "replaced", same_rows)
    monkeypatch.setattr(probes.Probes, "turned", property(lambda self: self))
    with pytest.raises(AssertionError):
        test_a_baked_bn_is_named_with_its_full_path_at_the_entry_points_it_shows_at(
            "keras3" if K.__name__ == "keras" else "tf_keras", 0
        )


def test_the_laws_reject_a_check_that_only_looks_where_rows_go_in_the_same(K, monkeypatch):
    """Behind the first coupled layer all rows differ, so later BNs would be missed."""
    monkeypatch.setattr(localise.Trace, "_disregards_statistics", lambda self, event: False)
    with pytest.raises(AssertionError):
        test_a_baked_bn_is_named_with_its_full_path_at_the_entry_points_it_shows_at(
            "keras3" if K.__name__ == "keras" else "tf_keras", 0
        )


def test_the_laws_reject_a_check_that_only_tries_predict(monkeypatch):
    adapter = type(adapter_of(baked(zoo.keras_module("keras3"))))
    original = adapter.entry_points

    def only(self, model, **options):
        return {"predict": original(self, model, **options)["predict"]}

    monkeypatch.setattr(adapter, "entry_points", only)
    with pytest.raises(AssertionError):
        test_a_baked_bn_is_named_with_its_full_path_at_the_entry_points_it_shows_at("keras3", 0)


# --- more than one way of going wrong -------------------------------------------------------------


def test_a_clean_model_costs_three_passes_over_the_rows_at_most(K, monkeypatch):
    """Counted at every entry point, one row a row, whatever batch it comes in."""
    model = K.Sequential([K.Input((5,)), K.layers.Dense(4), K.layers.BatchNormalization()])
    adapter = type(adapter_of(model))
    original, seen = adapter.entry_points, []

    def counted(self, model, **options):
        def count(call):
            return lambda x: (seen.append(int(x.shape[0])), call(x))[1]

        return {name: count(call) for name, call in original(self, model, **options).items()}

    monkeypatch.setattr(adapter, "entry_points", counted)
    on_jax = zoo.BACKEND == "jax"  # where each length has to be compiled for
    for rows in (5, 6, 8, 13):
        seen.clear()
        x = np.random.default_rng(0).normal(size=(rows, 5))
        assert bnfix.check(model, x, rows=rows).ok
        assert sum(seen) <= (5 if on_jax else 3) * rows
        assert len(set(seen)) == 2 if on_jax else len(set(seen)) >= 3
    inputs = K.Input(batch_size=6, shape=(5,))
    fixed = K.Model(inputs, K.layers.BatchNormalization()(inputs))
    seen.clear()
    assert bnfix.check(fixed, x).ok
    assert seen == [6] * (3 + len(zoo.COMPILED))


def assert_tried_again_without_a_trace(model, x, monkeypatch):
    """`predict` was compiled by its user, and the first `check` has compiled the other call."""
    model.predict(x, verbose=0)
    assert bnfix.check(model, x).ok
    traced = []
    dense = type(model.layers[0])
    call = dense.call

    def told(self, inputs, *args, **kwargs):
        traced.append(zoo.tensorflow().is_symbolic_tensor(inputs))
        return call(self, inputs, *args, **kwargs)

    with monkeypatch.context() as watching:
        watching.setattr(dense, "call", told)
        assert bnfix.check(model, x).ok
    assert set(traced) == {False}


def small(K):
    K.utils.set_random_seed(0)
    L = K.layers
    return K.Sequential([K.Input((5,)), L.Dense(4), L.BatchNormalization(), L.Dense(3)])


def test_what_was_compiled_for_a_check_is_not_traced_by_the_next(K, monkeypatch):
    zoo.tensorflow()
    model, x = small(K), np.random.default_rng(0).normal(size=(8, 5)).astype("f")
    assert_tried_again_without_a_trace(model, x, monkeypatch)
    monkeypatch.setattr(tensorflow, "traced_once", tensorflow_calls.function)
    with pytest.raises(AssertionError):
        assert_tried_again_without_a_trace(small(K), x, monkeypatch)


def test_what_was_compiled_for_a_check_tells_nothing_of_a_model_that_was_changed(K):
    zoo.tensorflow()
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("f")
    model = small(K)
    assert bnfix.check(model, x).ok
    model.layers[0].activation = K.activations.relu
    changed = bnfix.check(model, x)
    assert changed.ok
    assert {str(point.entry_point) for point in changed.measurements} >= {"tf.function"}
    assert all(point.against_predict.difference < 1e-5 for point in changed.measurements)


def test_what_was_compiled_for_a_check_may_fail_later_and_dies_with_its_model(K):
    zoo.tensorflow()
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("f")
    model = small(K)
    assert bnfix.check(model, x).ok

    def fails(inputs):
        raise ValueError("a variable of it is gone")

    assert id(model) in tensorflow_calls._tried
    tensorflow_calls._tried[id(model)] = fails
    assert bnfix.check(model, x).ok
    assert tensorflow_calls._tried[id(model)] is not fails
    key, reference = id(model), weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
    assert key not in tensorflow_calls._tried


VERBS = {
    "check": lambda model, x: bnfix.check(model, x),
    "diagnose": lambda model, x: bnfix.diagnose(model, x, verbose=0),
    "recalibrate": lambda model, x: bnfix.recalibrate(model, x, min_count=1, verbose=0),
    "fold": lambda model, x: bnfix.fold(model, verbose=0),
    "freeze": lambda model, x: bnfix.freeze(model),
    "statistics": lambda model, x: bnfix.statistics(model, x, method="streaming", verbose=0),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_keeps_a_model_alive(K, verb):
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("f")
    model = small(K)
    VERBS[verb](model, x)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def need_exports():
    if zoo.BACKEND == "jax" and find_spec("tensorflow") is None:
        pytest.skip("what Keras exports on JAX takes TensorFlow, which is not installed here")


def test_the_exported_model_is_tried_on_request(dialect):
    need_exports()
    K = zoo.keras_module(dialect)
    report = bnfix.check(baked(K), images(), export=True)
    points = {point.entry_point: point for point in report.measurements}
    assert points["export"].coupling.is_real
    assert "export" in report.findings[0].entry_point
    calm = bnfix.check(bnfix.freeze(baked(K)), images(), export=True)
    assert calm.ok, str(calm)
    assert "export" in {point.entry_point for point in calm.measurements}


def test_a_model_that_cannot_be_exported_is_checked_in_the_other_ways(K, monkeypatch):
    need_exports()
    model = bnfix.freeze(baked(K))

    def refuse(self, *args, **kwargs):
        raise ValueError("no such format")

    monkeypatch.setattr(type(model), "export", refuse)
    report = bnfix.check(model, images(), export=True)
    assert report.ok
    assert "could not be exported" in report.notes[0]
    assert "no such format" in report.notes[0]


def test_the_outputs_in_which_it_shows_are_named(K):
    L = K.layers
    inputs = K.Input((4,))
    calm = L.Dense(2, name="calm")(inputs)
    coupled = L.BatchNormalization(name="bn")(L.Dense(3)(inputs), training=True)
    x = np.random.default_rng(0).normal(size=(8, 4))
    several = K.Model(inputs, [calm, L.Dense(2, name="coupled")(coupled)])
    finding = bnfix.check(several, x).findings[0]
    assert finding.outputs == ("coupled",)
    by_key = K.Model(inputs, {"a": calm, "b": L.Dense(2)(coupled)})
    report = bnfix.check(by_key, x)
    assert report.findings[0].outputs == ("b",)
    assert "outputs b" in str(report)
    assert bnfix.check(K.Model(inputs, coupled), x).findings[0].outputs == ()


def test_a_layer_that_counts_its_calls_is_called_a_state(K):
    class Counts(K.layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(
                name="calls", shape=(), initializer="zeros", trainable=False
            )

        def call(self, inputs):
            self.calls.assign(self.calls + 1.0)
            return inputs + self.calls

        def compute_output_shape(self, shape):
            return shape

    inputs = K.Input((3,))
    model = K.Model(inputs, Counts(name="counts")(inputs))
    report = bnfix.check(model, np.random.default_rng(0).normal(size=(6, 3)))
    assert {(f.path, f.cause) for f in report.findings} == {("counts", "state")}
    assert next(f.cause for f in report.consequences) == "inference_changes_weights"
    assert all(finding.code is None for finding in report.findings)


def test_code_that_uses_the_batch_size_is_named(K):
    def scaled(x):
        size = K.ops.shape(x)[0] if K.__name__ == "keras" else x.shape[0] or 8
        return x * K.ops.cast(size, "float32") if K.__name__ == "keras" else x * float(size)

    class BySize(K.layers.Layer):
        def call(self, inputs):
            return scaled(inputs)

    inputs = K.Input((3,))
    x = K.layers.Dense(4)(inputs)
    model = K.Model(inputs, K.layers.Dense(2)(BySize(name="by_size")(x)))
    report = bnfix.check(model, np.random.default_rng(0).normal(size=(8, 3)))
    assert {(f.path, f.cause) for f in report.findings} == {("by_size", "batch_size")} or (
        # tf_keras traces one function for all batch sizes where the size is not in the shape
        {f.cause for f in report.findings} == {"batch_size"}
    ), str(report)


@pytest.mark.every(2)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_rounding_is_no_fault_however_much_a_network_amplifies_it(K, policy):
    """Deep, without normalization, weights far too large: a rounding error grows a thousandfold."""
    K.utils.set_random_seed(0)
    initializer = K.initializers.RandomNormal(stddev=0.5)
    deep = [
        K.layers.Dense(64, activation="tanh", kernel_initializer=initializer, dtype=policy)
        for _ in range(14)
    ]
    model = K.Sequential([K.Input((64,)), *deep])
    report = bnfix.check(model, np.random.default_rng(0).normal(size=(32, 64)), rows=32)
    assert report.ok, str(report)
    assert {finding.cause for finding in report.findings} <= {"rounding"}
    assert report.coupling == 0


def test_an_assertion_for_the_users_own_tests_shows_the_report(K):
    bnfix.assert_batch_invariant(bnfix.freeze(baked(K)), images())
    with pytest.raises(bnfix.BatchDependenceError, match="batch_statistics in first") as raised:
        bnfix.assert_batch_invariant(baked(K), images())
    assert raised.value.path == "first"
    assert not raised.value.report.ok
    assert isinstance(raised.value, AssertionError)


def assert_chance_is_blamed_on_the_layer_that_draws(K):
    """Row 0 looks the same from both sides, so that its flip shows in what mixes rows only."""
    inputs = K.Input((6, 6, 2))
    x = K.layers.RandomFlip("horizontal", name="flip")(inputs, training=True)
    x = K.layers.BatchNormalization(name="bn")(K.layers.Conv2D(3, 3)(x), training=True)
    model = K.Model(inputs, K.layers.Flatten()(x))
    rows = images()
    rows[0] = 0.5
    found = bnfix.check(model, rows).findings
    assert {(f.path, f.cause) for f in found} <= {
        ("flip", "randomness"),
        ("flip", "training_by_default"),
        ("bn", "batch_statistics"),
    }, found
    return found


def test_chance_is_blamed_on_the_layer_that_draws_and_not_on_one_that_mixes_rows(K):
    causes = {f.cause for f in assert_chance_is_blamed_on_the_layer_that_draws(K)}
    assert "batch_statistics" in causes
    assert len(causes) == 2


def test_the_law_rejects_a_check_that_looks_at_row_0_alone(monkeypatch):
    from bnfix.adapters import watching

    monkeypatch.setattr(watching, "_sums", lambda adapter, structure: ())
    K = zoo.keras_module("tf_keras")

    def tried():
        for seed in range(8):  # not every flip shows
            K.utils.set_random_seed(seed)
            assert_chance_is_blamed_on_the_layer_that_draws(K)

    with pytest.raises(AssertionError):
        tried()


def test_code_that_cannot_be_compiled_is_told_apart_from_inputs_that_do_not_fit(K):
    class ByValues(K.Model):
        def call(self, x, training=None):
            tf = zoo.tensorflow()
            return x * (2.0 if tf.reduce_max(x).numpy() > 0 else 1.0)

    model = ByValues()
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("f")
    model(x)
    with pytest.raises(bnfix.ModelError, match=r"Uncompiled it runs.*run_eagerly=True"):
        bnfix.check(model, x)
    model.compile(run_eagerly=True)
    assert bnfix.check(model, x).ok
