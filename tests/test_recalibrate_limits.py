"""recalibrate: memory that is bounded and known, rows cut as suits the machine, other engines."""

import os
import signal
import tempfile

import numpy as np
import pytest
import references as ref
import zoo
from test_recalibrate import EXACT, apart, images, refused, small_resnet, statistics_of

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import Reading
from bnfix.adapters.subject import Subject
from bnfix.breadth_first import engine, memory, run, sizing
from bnfix.breadth_first.loading import Loaded
from bnfix.breadth_first.memory import Store
from bnfix.breadth_first.pieces import pieces
from bnfix.breadth_first.schedule import schedule

BY_NAME = {entry.name: entry for entry in zoo.MODELS}
HIDING = {"opaque_bn", "subclassed"}
WITHOUT_GRAPH = zoo.cases(
    having={"bn"}, where=lambda entry, dialect: bool(HIDING & entry.tags_in(dialect))
)


# --- models without a graph ----------------------------------------------------------------------


@pytest.mark.every(2)
@pytest.mark.parametrize(("entry", "dialect"), WITHOUT_GRAPH)
def test_what_the_graph_does_not_show_is_measured_as_exactly(entry, dialect):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=12)
    _, report = bnfix.recalibrate(model, x, batch_size=5, min_count=1, return_report=True)
    # In a layer of Keras's own that stays closed, or fed by itself.
    opens = {"subclassed", "custom"} & entry.tags_in(dialect) or "time_distributed" in entry.name
    hidden = not opens or "twice" in entry.name
    assert report.engine == ("lockstep" if hidden else "exact")
    assert ref.worst_deviation(model, x) <= EXACT["float32"]


# --- pieces --------------------------------------------------------------------------------------


def cut(lengths, rows, *, ragged=()):
    """Pieces of batches of the given lengths, whose rows are numbered."""
    batches, start = [], 0
    for index, length in enumerate(lengths):
        width = 2 if index in ragged else 1
        array = np.repeat(np.arange(start, start + length)[:, None], width, axis=1)
        batches.append(Loaded(bnfix.data.batches.Batch(index, array), [array], length))
        start += length
    return list(pieces(batches, rows))


@pytest.mark.parametrize("rows", [1, 3, 4, 100, None])
@pytest.mark.parametrize("lengths", [[5], [1, 1, 1, 1, 1, 1], [7, 2, 9], [4, 4, 4]])
def test_every_row_goes_through_once_and_in_order(lengths, rows):
    made = cut(lengths, rows)
    np.testing.assert_array_equal(
        np.concatenate([piece.inputs[0][:, 0] for piece in made]), np.arange(sum(lengths))
    )
    assert [piece.rows for piece in made] == [len(piece.inputs[0]) for piece in made]
    if rows is None:
        assert [piece.rows for piece in made] == lengths
    else:
        assert all(piece.rows == rows for piece in made[:-1])
    edges = np.cumsum([0, *lengths])
    for piece in made:
        assert edges[piece.first] <= piece.inputs[0][0, 0] < edges[piece.first + 1]
        assert edges[piece.last] <= piece.inputs[0][-1, 0] < edges[piece.last + 1]


def test_rows_of_other_shapes_are_not_joined():
    made = cut([3, 3, 3], 4, ragged={1})
    assert [piece.inputs[0].shape for piece in made] == [(3, 1), (3, 2), (3, 1)]
    assert [str(piece) for piece in made] == ["batch 0", "batch 1", "batch 2"]


def test_batches_stay_as_they_are_where_a_layer_mixes_rows(K):
    """A Lambda over the batch gives other results for other batches: cutting would change them."""
    inputs = K.Input((3,))
    centred = K.layers.Lambda(lambda x: x - x[:1], output_shape=(3,))(inputs)
    model = K.Model(inputs, K.layers.BatchNormalization()(centred))
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    bnfix.recalibrate(model, x, batch_size=20)
    wanted = np.concatenate([part - part[:1] for part in (x[:20], x[20:])])
    np.testing.assert_allclose(model.layers[-1].moving_mean, wanted.mean(axis=0), atol=1e-6)


def test_pieces_are_joined_where_tensors_become_smaller_with_their_masks(K, monkeypatch):
    def narrowing():
        K.utils.set_random_seed(0)
        x = inputs = K.Input((6, 16))
        if K.__name__ == "tf_keras":  # in Keras 3 masks are made by operations, which may mix rows
            x = K.layers.Masking()(x)
        for width in (16, 16, 2, 2):
            x = K.layers.BatchNormalization()(K.layers.Dense(width)(x))
        return K.Model(inputs, x)

    x = np.random.default_rng(0).normal(size=(70, 6, 16)).astype("float32")
    x[np.arange(6) >= np.arange(70)[:, np.newaxis] % 7] = 0  # 0 to 6 steps each
    whole, cut = narrowing(), narrowing()
    bnfix.recalibrate(whole, x)
    seen = []
    through = engine.Engine._through

    def watched(engine, stage, step, given, *told):
        read, _ = given
        seen.append(int(read[0][0].shape[0]))
        return through(engine, stage, step, given, *told)

    monkeypatch.setattr(engine.Engine, "_through", watched)
    monkeypatch.setattr(sizing, "PIECE_BYTES", 10 * 6 * 16 * 4)
    bnfix.recalibrate(cut, x)
    # Each stage runs as many rows as its largest tensor allows; on JAX the next lower power of two.
    first, last = ([*8 * [8], 6], [64, 6]) if zoo.BACKEND == "jax" else (7 * [10], [70])
    assert seen == 3 * first + last
    assert apart(cut, statistics_of(whole)) <= EXACT["float32"]


# --- memory --------------------------------------------------------------------------------------


def need_of(model, rows, piece):
    reading = Reading(Subject.of(model))
    norms = [call.layer for call in reading.graph if reading.is_batch_norm(call.layer)]
    plan = schedule(reading.graph, norms)
    at_once = [piece] * len(plan.stages)
    return memory.need(plan, engine._declared_bytes, rows=rows, at_once=at_once)


class Watched(Store):
    """Notes the most that ever waits in memory."""

    most = 0

    def put(self, key, tensor):
        super().put(key, tensor)
        self.held = {**getattr(self, "held", {}), key: self.view(tensor).nbytes}
        Watched.most = max(Watched.most, sum(self.held[k] for k in self._held))


def test_what_waits_is_at_most_what_the_graph_implies(K, monkeypatch):
    monkeypatch.setattr(run, "Store", Watched)
    monkeypatch.setattr(sizing, "PIECE_BYTES", 20_000)
    Watched.most = 0
    model = small_resnet(K)
    _, report = bnfix.recalibrate(model, images(70), return_report=True)
    bound = need_of(model, 70, 1)
    assert 0.8 * bound.waiting <= Watched.most <= bound.waiting
    assert bound.waiting <= report.memory <= 1.25 * bound.total


def test_the_bound_grows_with_the_rows_and_counts_both_branches(K):
    model = small_resnet(K)
    assert need_of(model, 140, 1).waiting == 2 * need_of(model, 70, 1).waiting
    inputs = K.Input((8, 8, 4))
    left, right = (K.layers.BatchNormalization()(K.layers.Conv2D(4, 1)(inputs)) for _ in "ab")
    branches = K.Model(inputs, K.layers.BatchNormalization()(K.layers.Add()([left, right])))
    one = 8 * 8 * 4 * 4
    assert need_of(branches, 10, 1).waiting == 2 * one * 10


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_spilling_to_disk_changes_no_bit_and_leaves_no_file(K, monkeypatch, tmp_path, share):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plain, spilled = small_resnet(K), small_resnet(K)
    bnfix.recalibrate(plain, images())
    written = []
    write = Store._write
    monkeypatch.setattr(Store, "_write", lambda s, a: written.append(a.nbytes) or write(s, a))
    bound = need_of(spilled, 70, 1)
    limit = int(4.1 * bound.working + share * bound.waiting)
    bnfix.recalibrate(spilled, images(), memory_limit=limit)
    assert written, "nothing was spilled"
    assert apart(spilled, statistics_of(plain)) <= 1e-6  # pieces are smaller, sums differ
    assert not list(tmp_path.iterdir())


def test_no_file_is_left_after_an_error(K, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model, x = small_resnet(K), images()
    x[60] = 3e38
    bound = need_of(model, 70, 1)
    refused(model, x, bnfix.BnfixError, "not finite", memory_limit=5 * bound.working)
    assert not list(tmp_path.iterdir())


def test_a_limit_that_one_row_exceeds_is_refused(K):
    refused(small_resnet(K), images(), bnfix.ResourceError, "one batch alone", memory_limit=1000)


def test_too_little_disk_is_refused_before_anything_runs(K, monkeypatch):
    free = memory.shutil.disk_usage(".")._replace(free=10)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda folder: free)
    monkeypatch.setattr(engine.Engine, "run", lambda *a, **k: pytest.fail("it ran"))
    model = small_resnet(K)
    limit = 5 * need_of(model, 70, 1).working
    refused(model, images(), bnfix.ResourceError, "10 B free.*TMPDIR", memory_limit=limit)


def test_sizes_that_the_model_leaves_open_are_taken_from_the_data(K):
    model = zoo.build(BY_NAME["free_image_size"], "keras3" if K.__name__ == "keras" else "tf_keras")
    x = zoo.inputs_for(model, rows=12)
    _, report = bnfix.recalibrate(model, x, min_count=1, return_report=True)
    assert report.memory > x.nbytes


# --- other ways to go ----------------------------------------------------------------------------


def test_moments_taken_on_a_device_agree_with_those_taken_here(K, monkeypatch):
    here, there = small_resnet(K), small_resnet(K)
    bnfix.recalibrate(here, images())
    monkeypatch.setattr(type(adapter_of(there)), "accelerated", property(lambda self: True))
    bnfix.recalibrate(there, images(), batch_size=2)  # compiled
    assert apart(there, statistics_of(here)) <= EXACT["float32"]


def test_streaming_is_said_to_be_what_it_is(K):
    wanted, model = small_resnet(K), small_resnet(K)
    bnfix.recalibrate(wanted, images())
    _, report = bnfix.recalibrate(
        model, images(), method="streaming", batch_size=10, return_report=True
    )
    first, *_ = zoo.batch_norms(model)
    exactly = ref.statistics(zoo.batch_norms(wanted)[0])
    assert ref.deviation(first, ref.statistics(first), exactly) <= EXACT["float32"]
    assert EXACT["float32"] < apart(model, statistics_of(wanted)) < 0.5
    assert report.engine == "streaming"
    assert "fewer than 64" in str(report)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "average"}, "method is 'average'"),
        ({"ddof": 2}, "ddof is 2"),
        ({"memory_limit": 0}, "memory_limit must be a size"),
        ({"memory_limit": 2**30, "method": "streaming"}, "'streaming' holds one batch at a time"),
        ({"memory_limit": "2 apples"}, 'such as "1 GiB".*got .2 apples.'),
        ({"min_count": "3"}, "min_count must be a whole number of at least 1; got .3."),
        ({"metric": "accuracy"}, "metric is 'accuracy'; it may be a function"),
        ({"layers": 3}, "layers: 3 is no path"),
        ({"guard": "maybe"}, "guard is 'maybe'"),
    ],
)
def test_options_that_make_no_sense_are_refused(K, options, message):
    refused(small_resnet(K), images(), bnfix.OptionError, message, **options)


def test_a_memory_limit_needs_a_graph(K):
    class ByShape(K.Model):
        """Asks for a number of rows, which placeholders do not have."""

        def __init__(self):
            super().__init__()
            self.bn = K.layers.BatchNormalization()

        def call(self, x):
            return self.bn(x) * (1.0 / max(x.shape[0], 1))

    x = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
    model = ByShape()
    model(x)
    refused(model, x, bnfix.OptionError, "memory_limit needs a graph", memory_limit=2**30)


def test_a_memory_limit_holds_for_a_subclassed_model_that_can_be_opened(dialect):
    entry = zoo.entries(dialect, having={"bn", "subclassed"})[0]
    wanted, model = (zoo.build(entry, dialect) for _ in range(2))
    x = zoo.inputs_for(model, rows=40)
    bnfix.recalibrate(wanted, x)
    _, report = bnfix.recalibrate(model, x, memory_limit=2**20, batch_size=8, return_report=True)
    assert report.engine == "exact"
    assert apart(model, statistics_of(wanted)) <= EXACT["float32"]


def test_sigterm_leaves_statistics_as_they_were(K):
    class Terminates(K.layers.Layer):
        def call(self, inputs):
            os.kill(os.getpid(), signal.SIGTERM)
            return inputs

        def compute_output_shape(self, input_shape):
            return input_shape

    def leave(*_):
        raise SystemExit

    inputs = K.Input((8, 8, 1))
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:  # building the model calls the layer
        x = Terminates()(K.layers.BatchNormalization()(inputs))
        model = K.Model(inputs, K.layers.BatchNormalization()(x))
        weights = ref.weights_of(model)
        signal.signal(signal.SIGTERM, leave)
        with pytest.raises(SystemExit):
            bnfix.recalibrate(model, images(40))
    finally:
        signal.signal(signal.SIGTERM, before)
    ref.assert_same_weights(model, weights)


def test_constant_channels_are_counted_in_the_report(K):
    inputs = K.Input((4,))
    model = K.Model(inputs, K.layers.BatchNormalization(name="bn")(inputs))
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    x[:, 2] = 7.0
    _, report = bnfix.recalibrate(model, x, return_report=True)
    assert report.layers[0].dead == 1
    assert "1 channels constant" in str(report)


def test_statistics_beyond_the_layers_dtype_are_cut_and_counted(K):
    inputs = K.Input((3,), dtype="float16")
    model = K.Model(inputs, K.layers.BatchNormalization(name="bn", dtype="float16")(inputs))
    x = (np.random.default_rng(0).normal(size=(64, 3)) * [1, 1, 2000]).astype("float16")
    _, report = bnfix.recalibrate(model, x, return_report=True)
    stored = np.asarray(model.layers[-1].moving_variance)
    if stored.dtype == np.float16:
        assert report.layers[0].clamped == 1
        assert stored[2] == np.finfo(np.float16).max
    else:  # tf_keras keeps statistics of 16-bit layers in float32
        assert report.layers[0].clamped == 0
        np.testing.assert_allclose(stored, x.astype(float).var(axis=0), rtol=1e-4)


def test_the_report_tells_how_far_the_old_statistics_had_come(K):
    model = small_resnet(K)
    bnfix.recalibrate(model, images())
    for norm in zoo.batch_norms(model):  # as 100 updates with momentum 0.99 would leave them
        left = 0.99**100
        norm.moving_mean.assign((1 - left) * np.asarray(norm.moving_mean))
        norm.moving_variance.assign((1 - left) * np.asarray(norm.moving_variance) + left)
    _, report = bnfix.recalibrate(model, images(), return_report=True)
    found = [layer.convergence for layer in report.layers]
    assert all(fit is not None and abs(fit.updates - 100) < 1 for fit in found)
    assert "about 100.0 updates" in str(report)


@pytest.mark.both
def test_keys_of_no_input_are_refused_whatever_they_are(K):
    model = K.Sequential([K.Input((4,)), K.layers.BatchNormalization()], name="network")
    for keys in ({"other"}, {1, "other"}):
        with pytest.raises(bnfix.DataError, match=r"the inputs have the keys .*'other'.*; network"):
            bnfix.recalibrate(model, dict.fromkeys(keys, np.ones((64, 4))), verbose=0)
