"""recalibrate: exact for any batch size and order, all or nothing."""

from dataclasses import replace

import faults
import numpy as np
import pytest
import references as ref
import zoo
from zoo.courses import digits_resnet

import bnfix
from bnfix.recalibration import estimate

EXACT = {"float32": 1e-4, "float64": 1e-10}
# One call feeds another of the same BN, which is told: see the tests on them.
CHAINED = {"shared_bn", "shared_inside_and_outside", "nested_fed_by_itself"}
SEVERAL_AXES = {"bn_multi_axis"}

CASES = zoo.cases(
    having={"bn"},
    lacking={"opaque_bn", "subclassed"},
    where=lambda entry, _: entry.name not in CHAINED | SEVERAL_AXES,
)


def small_resnet(K, dtype="float32"):
    """Nine BNs, two of them on a branch; random statistics that calibration has to replace."""
    before = K.backend.floatx(), K.mixed_precision.global_policy()
    K.backend.set_floatx(dtype)
    K.mixed_precision.set_global_policy(dtype)
    try:
        K.utils.set_random_seed(0)
        model = digits_resnet(K)
    finally:
        K.backend.set_floatx(before[0])
        K.mixed_precision.set_global_policy(before[1])
    zoo.randomise_batch_norms(model, 0)
    return model


def images(rows=70, dtype="float32"):
    return np.random.default_rng(1).gamma(2.0, 1.0, (rows, 8, 8, 1)).astype(dtype)


def statistics_of(model):
    return [ref.statistics(layer) for layer in zoo.batch_norms(model)]


def apart(model, wanted):
    pairs = zip(zoo.batch_norms(model), wanted, strict=True)
    return max(ref.deviation(layer, ref.statistics(layer), pair) for layer, pair in pairs)


def one_training_pass(K, dtype, x):
    """Statistics that Keras itself stores for `x` as a single batch at momentum 0."""
    model = small_resnet(K, dtype)
    norms = zoo.batch_norms(model)
    for layer in norms:
        layer.momentum = 0.0
        layer.fused = False  # tf_keras's fused kernel stores the unbiased variance
    model(x, training=True)
    return [ref.statistics(layer) for layer in norms]


# --- exactness -----------------------------------------------------------------------------------


@pytest.mark.every(5)
@pytest.mark.parametrize(("entry", "dialect"), CASES)
def test_every_bn_gets_the_population_statistics_of_its_own_inputs(entry, dialect):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=12)
    assert ref.worst_deviation(model, x) > 0.01, "random statistics should be wrong at first"
    bnfix.recalibrate(model, x, batch_size=5, min_count=1)
    half = any("float16" in str(n.moving_mean.dtype) for n in zoo.batch_norms(model))
    # Rounding the stored value once: half a unit in its last place, twice for mean and variance.
    assert ref.worst_deviation(model, x) <= (2.0**-10 if half else EXACT["float32"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_statistics_equal_one_training_pass_over_everything(K, dtype):
    zoo.need_precision(dtype)
    x = images(dtype=dtype)
    wanted = one_training_pass(K, dtype, x)
    shuffled = np.random.default_rng(5).permutation(len(x))
    for batch_size, order in [
        (1, None),
        (2, None),
        (7, None),
        (32, None),
        (70, None),
        (7, shuffled),
    ]:
        model = small_resnet(K, dtype)
        data = x if order is None else x[order]
        bnfix.recalibrate(model, data, batch_size=batch_size)
        assert apart(model, wanted) <= EXACT[dtype], (batch_size, order is not None)


def moving_average_in_training_mode(model, x, batch_size):
    """What other tools do: average what training mode sees, batch after batch."""
    norms = zoo.batch_norms(model)
    seen = []
    for start in range(0, len(x), batch_size):
        for layer in norms:
            layer.momentum = 0.0
        model(x[start : start + batch_size], training=True)
        seen.append([ref.statistics(layer) for layer in norms])
    for layer, found in zip(norms, zip(*seen, strict=True), strict=True):
        layer.moving_mean.assign(np.mean([mean for mean, _ in found], axis=0))
        layer.moving_variance.assign(np.mean([variance for _, variance in found], axis=0))


def all_layers_at_once(model, x, batch_size):
    """Moments of every BN's inputs in a single inference pass under the old statistics."""
    norms = zoo.batch_norms(model)
    seen = {}
    with ref.watched(norms, seen):
        model(x, training=False)
    for layer in norms:
        mean, variance = ref.population(layer, seen[id(layer)])
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


@pytest.mark.parametrize("mutant", [moving_average_in_training_mode, all_layers_at_once])
def test_the_law_rejects_known_wrong_estimators(K, mutant):
    x = images()
    wanted = one_training_pass(K, "float32", x)
    model = small_resnet(K)
    mutant(model, x, 7)
    assert apart(model, wanted) > 10 * EXACT["float32"]


def test_compiled_stages_find_the_same_as_uncompiled_ones(K):
    x = images(rows=60)  # 60 batches of 1 are compiled, 2 of 30 are not
    few, many = small_resnet(K), small_resnet(K)
    bnfix.recalibrate(few, x, batch_size=30)
    bnfix.recalibrate(many, x, batch_size=1)
    assert apart(many, statistics_of(few)) <= EXACT["float32"]


def feeding_itself(dialect):
    """Models with a BN that is called on a result of its own, and rows for them."""
    by_name = {entry.name: entry for entry in zoo.MODELS}
    for name in sorted(CHAINED):
        model = zoo.build(by_name[name], dialect)
        yield model, zoo.inputs_for(model, rows=12)


def test_calls_of_one_bn_that_feed_each_other_agree_with_what_they_lead_to(dialect):
    for model, x in feeding_itself(dialect):
        _, report = bnfix.recalibrate(model, x, min_count=1, return_report=True)
        assert "called on a result of its own" in report.notes[0]
        assert ref.worst_deviation(model, x) <= EXACT["float32"]
        found = bnfix.diagnose(model, x).layers
        assert max(layer.distance for layer in found) <= EXACT["float32"]


def test_frozen_layers_are_measured_by_diagnose_as_well(K):
    model = K.Sequential([K.Input((3,)), K.layers.BatchNormalization(name="bn")])
    x = 2 + 3 * np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    bnfix.freeze(model)
    (far,) = bnfix.diagnose(model, x).layers
    assert (far.path, far.count) == ("bn", 4)
    assert far.distance > 0.1
    bnfix.recalibrate(model, x, min_count=1)
    (near,) = bnfix.diagnose(model, x).layers
    assert near.distance <= EXACT["float32"]


def test_the_law_rejects_calls_that_are_settled_in_order(dialect, monkeypatch):
    planned = estimate.schedule
    monkeypatch.setattr(estimate, "schedule", lambda *a: replace(planned(*a), chained=()))
    for model, x in feeding_itself(dialect):
        bnfix.recalibrate(model, x, min_count=1)
        assert ref.worst_deviation(model, x) > 10 * EXACT["float32"]


def test_a_memory_limit_is_refused_where_several_passes_are_needed(dialect):
    for model, x in feeding_itself(dialect):
        with pytest.raises(bnfix.OptionError, match=r"own; .* is\. Leave memory_limit"):
            bnfix.recalibrate(model, x, min_count=1, memory_limit="1GB")


# --- what it accepts -----------------------------------------------------------------------------


def in_batches(x, y, weight):
    for start in range(0, len(x), 8):
        rows = slice(start, start + 8)
        yield x[rows], y[rows], weight[rows]


def as_tf_dataset(K, x, y, weight):
    tf = zoo.tensorflow()
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


def as_endless_dataset(K, x, y, weight):
    tf = zoo.tensorflow()
    return tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(10).repeat()


def as_indexed(K, x, y, weight):
    base = K.utils.PyDataset if hasattr(K.utils, "PyDataset") else K.utils.Sequence

    class Rows(base):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return x[index * 10 : index * 10 + 10], y[index * 10 : index * 10 + 10]

    return Rows()


FORMS = {
    "array": (lambda K, x, y, w: x, None),
    "x in a tuple": (lambda K, x, y, w: (x,), None),
    "x and y": (lambda K, x, y, w: (x, y), None),
    "x, y and weight": (lambda K, x, y, w: (x, y, w), None),
    "list of one input": (lambda K, x, y, w: [x], None),
    "dict by input name": (lambda K, x, y, w: {"pixels": x}, None),
    "generator": (lambda K, x, y, w: in_batches(x, y, w), None),
    "tf.data": (as_tf_dataset, None),
    "endless tf.data with steps": (as_endless_dataset, 4),
    "PyDataset or Sequence": (as_indexed, None),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_gives_the_same_statistics(K, form):
    def build():
        K.utils.set_random_seed(0)
        inputs = K.Input((8, 8, 1), name="pixels")
        x = K.layers.BatchNormalization()(K.layers.Conv2D(3, 3)(inputs))
        return K.Model(inputs, K.layers.BatchNormalization()(K.layers.ReLU()(x)))

    x = images(rows=40)
    wanted = build()
    bnfix.recalibrate(wanted, x, batch_size=40)
    make, steps = FORMS[form]
    model = build()
    data = make(K, x, np.arange(40), np.ones(40, "float32"))
    assert bnfix.recalibrate(model, data, steps=steps) is model
    assert apart(model, statistics_of(wanted)) <= EXACT["float32"]


def test_only_statistics_change(K):
    model = small_resnet(K)
    held = {
        id(v)
        for layer in zoo.batch_norms(model)
        for v in (layer.moving_mean, layer.moving_variance)
    }
    others = [v for v in model.weights if id(v) not in held]
    before = [np.array(v.numpy()) for v in others]
    bnfix.recalibrate(model, images())
    for variable, value in zip(others, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_second_run_finds_nothing_to_move(K):
    model = small_resnet(K)
    bnfix.recalibrate(model, images())
    _, report = bnfix.recalibrate(model, images(), return_report=True)
    assert max(layer.mean_shift for layer in report.layers) <= EXACT["float32"]
    assert max(abs(layer.variance_ratio - 1) for layer in report.layers) <= EXACT["float32"]


def test_ddof_1_stores_the_unbiased_variance(K):
    model = K.Sequential([K.Input((3,)), K.layers.BatchNormalization()])
    x = images(rows=40).reshape(40, -1)[:, :3]
    bnfix.recalibrate(model, x, ddof=1)
    np.testing.assert_allclose(model.layers[-1].moving_variance, x.var(axis=0, ddof=1), rtol=1e-5)


def two_in_a_row(K, hidden):
    """Two BatchNormalizations, the second on what the first gives; hidden in a layer, or not."""

    class Pair(K.layers.Layer):
        def __init__(self, norms):
            super().__init__()
            self.norms = norms

        def call(self, x):
            return self.norms[1](self.norms[0](x))

    norms = [K.layers.BatchNormalization(epsilon=1e-6) for _ in range(2)]
    model = K.Sequential([K.Input((3,)), *([Pair(norms)] if hidden else norms)])
    return model, norms[1]


def assert_normalizes_by_what_it_stores(K, hidden):
    """Of n rows the first leaves a variance of (n - 1) / n, which the second stores as 1."""
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(4, 3)).astype("float32")
    model, second = two_in_a_row(K, hidden)
    bnfix.recalibrate(model, x, ddof=1, min_count=1, batch_size=2, guard=False, verbose=0)
    np.testing.assert_allclose(second.moving_variance, np.ones(3), rtol=1e-5)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_layer_sees_inputs_normalized_by_the_variance_that_is_stored(K, hidden):
    assert_normalizes_by_what_it_stores(K, hidden)


@pytest.mark.parametrize("hidden", [False, True])
def test_the_law_rejects_engines_that_forget_ddof_on_the_way(K, hidden, monkeypatch):
    from bnfix.recalibration.batch_moments import BatchMoments
    from bnfix.recalibration.lockstep import LockstepEngine

    for engine in (BatchMoments, LockstepEngine):
        begin = engine.__init__

        def forgetful(self, *args, begin=begin, ddof, **options):
            begin(self, *args, ddof=0, **options)

        monkeypatch.setattr(engine, "__init__", forgetful)
    with pytest.raises(AssertionError):
        assert_normalizes_by_what_it_stores(K, hidden)


def test_only_the_chosen_layers_change(K):
    model = small_resnet(K)
    first, *rest = zoo.batch_norms(model)
    before = [ref.statistics(layer) for layer in rest]
    bnfix.recalibrate(model, images(), layers=[first.name])
    assert all(
        np.array_equal(a, b)
        for layer, old in zip(rest, before, strict=True)
        for a, b in zip(ref.statistics(layer), old, strict=True)
    )
    assert apart(model, one_training_pass(K, "float32", images())[:1] + before) <= EXACT["float32"]


def test_frozen_layers_are_kept_on_request(K):
    model = small_resnet(K)
    frozen = zoo.batch_norms(model)[2]
    frozen.trainable = False
    before = ref.statistics(frozen)
    bnfix.recalibrate(model, images(), include_frozen=False)
    np.testing.assert_array_equal(ref.statistics(frozen), before)
    bnfix.recalibrate(model, images())
    assert ref.deviation(frozen, ref.statistics(frozen), before) > 0.01


def test_where_all_are_frozen_nothing_is_left_to_recalibrate(K):
    class Code(K.Model):
        def __init__(self):
            super().__init__()
            self.bn = K.layers.BatchNormalization(trainable=False)

        def call(self, x, training=None):
            return self.bn(x if float(x[0, 0]) < 1e9 else -x, training=training)

    x = images()[:, 0, 0]
    code = Code()
    code(x[:1])
    frozen = K.layers.BatchNormalization(trainable=False)
    for model in (code, K.Sequential([K.Input(x.shape[1:]), frozen])):
        before = ref.weights_of(model)
        _, report = bnfix.recalibrate(model, x, include_frozen=False, return_report=True)
        assert report.layers == ()
        ref.assert_same_weights(model, before)


def test_the_report_says_what_moved_and_by_how_much(K):
    model = small_resnet(K)
    before = ref.statistics(zoo.batch_norms(model)[0])
    _, report = bnfix.recalibrate(model, images(), batch_size=8, return_report=True)
    first = report.layers[0]
    assert (len(report.layers), report.batches, first.count) == (9, 9, 70 * 64)
    np.testing.assert_array_equal(first.old_mean, before[0])
    shift = np.sqrt(np.mean(np.square(before[0] - first.mean) / first.variance))
    assert first.mean_shift == pytest.approx(shift)
    assert f"{first.mean_shift:.2f} sigma" in str(report)
    assert report.to_dict()["layers"][0]["path"] == first.path


def test_progress_is_shown_on_the_error_stream_on_request(K, capfd):
    bnfix.recalibrate(small_resnet(K), images(), verbose=1)
    shown = capfd.readouterr()
    assert "recalibrating" in shown.err
    assert shown.out == ""


# --- what it refuses, with nothing changed -------------------------------------------------------


def refused(model, data, error, message, **options):
    before = ref.weights_of(model)
    with pytest.raises(error, match=message) as caught:
        bnfix.recalibrate(model, data, **options)
    assert isinstance(caught.value, bnfix.BnfixError)
    assert "othing was changed" in str(caught.value)
    ref.assert_same_weights(model, before)
    return caught.value


def test_what_is_not_a_model_is_refused():
    with pytest.raises(
        bnfix.UnsupportedModelError, match=r"expected a Keras 3 or tf_keras model, got builtins.str"
    ):
        bnfix.recalibrate("model.h5", images())


def test_an_unbuilt_model_is_refused(K):
    model = K.Sequential([K.layers.Dense(3), K.layers.BatchNormalization()])
    with pytest.raises(bnfix.UnsupportedModelError, match=r"never seen an input shape"):
        bnfix.recalibrate(model, images())


def test_a_model_without_bn_is_refused(K):
    model = K.Sequential([K.Input((3,)), K.layers.Dense(2)])
    with pytest.raises(bnfix.UnsupportedModelError, match=r"has no BatchNormalization"):
        bnfix.recalibrate(model, np.zeros((4, 3)))


@pytest.mark.parametrize("data", [np.zeros((0, 8, 8, 1)), iter(()), [np.zeros((0, 8, 8, 1))]])
def test_empty_data_is_refused(data):
    refused(small_resnet(zoo.keras_module("keras3")), data, bnfix.DataError, "empty")


def test_endless_data_without_steps_is_refused(K):
    data = as_endless_dataset(K, images(), np.zeros(70), np.ones(70))
    refused(small_resnet(K), data, bnfix.DataError, "never ends.*steps=")


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((9, 8, 8, 3)), r"got shape \(9, 8, 8, 3\); the model takes \(any, 8, 8, 1\)"),
        (np.zeros((9, 64)), r"got shape \(9, 64\)"),
        (np.full((9, 8, 8, 1), "a"), "got dtype .*; the model takes float32"),
        (np.zeros((9, 8, 8, 1), complex), "got dtype complex128"),
        ([np.zeros((9, 8, 8, 1))] * 2, "has 2 inputs; the model takes 1"),
        ({"other": np.zeros((9, 8, 8, 1))}, "other"),
        ((np.zeros((9, 8, 8, 1)), np.zeros(7)), "differ in length"),
        ((1, 2, 3, 4), "no calibration data|tuple of 4"),
        ("images", "str is no calibration data"),
        (None, "no data was given"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_expected_and_got(K, data, message):
    refused(small_resnet(K), data, bnfix.DataError, message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_that_is_not_finite_is_refused_and_the_batch_named(K, value):
    x = images()
    x[21, 0, 0, 0] = value
    refused(small_resnet(K), x, bnfix.DataError, "batch 2, .*1 of 640 values.*row 1", batch_size=10)


def test_too_few_values_are_refused_and_the_layer_named(K):
    model = small_resnet(K)
    error = refused(model, images(2), bnfix.StatisticsError, "min_count is 1000", min_count=1000)
    assert error.path == zoo.batch_norms(model)[0].name


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"steps": 0}, {"batch_size": 2.5}])
def test_sizes_that_make_no_sense_are_refused(options):
    model = small_resnet(zoo.keras_module("keras3"))
    refused(model, images(), bnfix.OptionError, next(iter(options)), **options)


def test_an_overflow_inside_the_model_is_refused_and_the_layer_named(K):
    model = small_resnet(K)
    first = zoo.batch_norms(model)[0]
    error = refused(
        model,
        images() / images().max() * np.float32(3e38),
        (bnfix.StatisticsError, bnfix.DataError),
        "not finite",
    )
    assert first.name in str(error)


class Fails(Exception):
    """Something that no one expects."""


def failing(K, raises):
    """Two BNs with a layer between them that fails when a batch is longer than 4."""

    class Fuse(K.layers.Layer):
        def call(self, inputs):
            if inputs.shape[0] == 4:
                raise raises
            return inputs

        def compute_output_shape(self, input_shape):
            return input_shape

    inputs = K.Input((8, 8, 1))
    x = Fuse(name="fuse")(K.layers.BatchNormalization()(inputs))
    return K.Model(inputs, K.layers.BatchNormalization()(x))


def test_a_model_that_raises_in_the_middle_is_named_and_left_as_it_was(K):
    error = refused(
        failing(K, Fails("blown")), images(8), bnfix.ModelError, "fuse raised Fails", batch_size=4
    )
    assert isinstance(error.__cause__, Fails)
    assert error.path == "fuse"


def test_an_interrupt_in_the_middle_leaves_statistics_as_they_were(K):
    model = failing(K, KeyboardInterrupt())
    before = ref.weights_of(model)
    with pytest.raises(KeyboardInterrupt):
        bnfix.recalibrate(model, images(8), batch_size=4)
    ref.assert_same_weights(model, before)


def test_data_that_breaks_off_leaves_statistics_as_they_were(K):
    def breaks_off():
        yield images(8)
        raise Fails("disk")

    model = small_resnet(K)
    before = ref.weights_of(model)
    with pytest.raises(bnfix.DataError, match="batch 1 cannot be read: Fails: disk") as refusal:
        bnfix.recalibrate(model, breaks_off())
    assert isinstance(refusal.value.__cause__, Fails)
    ref.assert_same_weights(model, before)


@pytest.mark.parametrize(("factor", "said"), [(255, "{} times as"), (1 / 255, "1/{} as"), (2, "")])
def test_data_in_other_units_are_told_once_and_only_where_all_layers_are_new(K, factor, said):
    made = faults.healthy(K)
    _, report = bnfix.recalibrate(made.model, made.x * factor, return_report=True)
    found = [note for note in report.notes if "Prepare the data as for training" in note]
    near = [f"bn1 the data vary {said.format(number)} much" for number in range(240, 270)]
    assert [sum(sentence in note for sentence in near) for note in found] == [1] * bool(said)
    made = faults.healthy(K)
    _, report = bnfix.recalibrate(made.model, made.x * factor, layers=["bn2"], return_report=True)
    assert report.notes == ()
    assert bnfix.diagnose(made.model, made.x * factor).notes == ()
