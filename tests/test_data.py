"""Every kind of data that `fit` takes, and much that it does not: a result, or one `BnfixError`."""

import warnings
from collections import namedtuple
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

import numpy as np
import pytest
import zoo
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import bnfix
from bnfix.data import batches as reading
from bnfix.data import columns, endless
from bnfix.recalibration.procedure import Options, read

Pair = namedtuple("Pair", "x y")
X = np.random.default_rng(0).standard_normal((24, 3)).astype("float32")
Y = np.arange(24, dtype="float32")[:, None] % 2


@contextmanager
def uncompiled():
    """What is tested here is what goes in, so nothing is worth being traced."""
    if zoo.BACKEND != "tensorflow":
        yield  # `run_eagerly=True` is enough
        return
    tf = zoo.tensorflow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # tf.data stays compiled, and says so
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)


def model_of(dialect, *, free=False):
    """Two BNs over three features, or over images of any size."""
    K = zoo.keras_module(dialect)
    K.utils.set_random_seed(0)
    L = K.layers
    inputs = K.Input((None, None, 3) if free else (3,))
    x = L.Conv2D(16, 1)(inputs) if free else L.Dense(16)(inputs)
    x = L.BatchNormalization(name="first")(x)
    x = L.GlobalAveragePooling2D()(x) if free else x
    x = L.BatchNormalization(name="second")(L.Dense(4)(x))
    model = K.Model(inputs, L.Dense(1)(x))
    model.compile("sgd", "mse", run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def models():
    return {dialect: model_of(dialect) for dialect in zoo.DIALECTS}


def pandas():
    return pytest.importorskip("pandas")


def sparse_tensor():
    tf = zoo.tensorflow()
    return tf.sparse.reorder(tf.sparse.from_dense(X))


def tensors():
    tf = zoo.tensorflow()
    return tf.constant(X), tf.Variable(Y)


def dataset(*, batched=8, **options):
    tf = zoo.tensorflow()
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(batched, **options)


def py_dataset(dialect, *, short=False):
    K = zoo.keras_module(dialect)
    base = K.utils.PyDataset if dialect == "keras3" else K.utils.Sequence

    class Data(base):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            if short and index == 2:
                raise IndexError("past the end")
            rows = slice(8 * index, 8 * index + 8)
            return X[rows], Y[rows]

    return Data()


def in_batches(kind=tuple):
    return (kind((X[i : i + 8], Y[i : i + 8])) for i in range(0, 24, 8))


def scipy_sparse():
    from scipy import sparse

    return sparse.coo_matrix(X)


#: By name, what makes it of a dialect. All stand for X, with or without Y.
TAKEN = {
    "array": lambda _: X,
    "array and labels": lambda _: (X, Y),
    "weights": lambda _: (X, Y, np.ones(24)),
    "float64": lambda _: (X.astype("float64"), Y),
    "nested lists": lambda _: (X.tolist(), Y.tolist()),
    "list of one input": lambda _: ([X], Y),
    "tensors": lambda _: tensors(),
    "sparse tensor": lambda _: (sparse_tensor(), Y),
    "scipy's sparse": lambda _: scipy_sparse(),
    "data frame": lambda _: (pandas().DataFrame(X), pandas().Series(Y[:, 0])),
    "dataset": lambda _: dataset(),
    "ends with fewer rows": lambda _: dataset(batched=7),
    "py dataset": py_dataset,
    "generator": lambda _: in_batches(),
    "generator of lists": lambda _: in_batches(list),
    "generator of named tuples": lambda _: in_batches(lambda pair: Pair(*pair)),
    "list of batches": lambda _: iter([X[:8], X[8:]]),
    "empty batch": lambda _: iter([X[:0], X]),
}


def ragged():
    tf = zoo.tensorflow()
    return tf.ragged.constant([[1.0, 2.0, 3.0], [1.0]] * 8)


def endless_dataset():
    tf = zoo.tensorflow()
    return tf.data.Dataset.from_tensors(X).repeat()


def fails():
    yield X[:1]
    raise ValueError("disk")


def holds_itself():
    held = []
    held.append(held)
    return held


class Unreadable:
    """What looks like an array, but for its values."""

    shape = (8, 3)

    def __array__(self, *_, **__):
        raise RuntimeError("gone")

    def __getitem__(self, _):
        raise KeyError("gone")


REFUSED = {
    "other shape": lambda _: X[:, :2],
    "two inputs": lambda _: [X, X],
    "named inputs": lambda _: {"a": X, "b": X},
    "named pair": lambda _: Pair(X, X),
    "nested lists of several lengths": lambda _: [[1.0, 2.0, 3.0], [1.0]] * 12,
    "ragged": lambda _: ragged(),
    "text": lambda _: np.full((24, 3), "a"),
    "objects": lambda _: np.full((24, 3), None),
    "dates": lambda _: np.zeros((24, 3), "datetime64[s]"),
    "records": lambda _: np.zeros((24, 3), [("a", "f4")]),
    "complex": lambda _: X.astype("complex64"),
    "not finite": lambda _: np.where(X > 1, np.nan, X),
    "scalar": lambda _: np.float32(1),
    "labels of another length": lambda _: (X, Y[:5]),
    "tuple of four": lambda _: (X, Y, Y, Y),
    "a word": lambda _: "data",
    "a number": lambda _: 3,
    "nothing": lambda _: None,
    "nothing in a list": lambda _: [None],
    "numbers one by one": lambda _: iter([1, 2, 3]),
    "a function": lambda _: lambda: X,
    "empty": lambda _: X[:0],
    "empty generator": lambda _: iter(()),
    "short py dataset": partial(py_dataset, short=True),
    "fails in the middle": lambda _: fails(),
    "endless dataset": lambda _: endless_dataset(),
    "holds itself": lambda _: holds_itself(),
    "unreadable": lambda _: (Unreadable(), Y[:8]),
    "symbolic": lambda dialect: zoo.keras_module(dialect).Input((3,)),
}

VERBS = {
    "check": lambda m, d: bnfix.check(m, d, rows=24),
    "recalibrate": lambda m, d: bnfix.recalibrate(m, d, guard=False, min_count=1, verbose=0),
    "streaming": lambda m, d: bnfix.recalibrate(
        m, d, method="streaming", guard=False, min_count=1, verbose=0
    ),
    "diagnose": bnfix.diagnose,
    "repair": lambda m, d: bnfix.repair(m, d, min_count=1, verbose=0),
    "to_group_norm": lambda m, d: bnfix.to_group_norm(m, d, groups=1, verbose=0),
    "batch_invariant": lambda m, d: bnfix.batch_invariant(m, 2, x=X).predict(d),
    "fold": lambda m, d: bnfix.fold(m, x=d[0] if isinstance(d, tuple) else d),
}

#: What a verb does not mind: it takes a few rows, or no data, or inputs alone.
SEES_LESS = {
    "check": {"endless dataset"},
    "diagnose": {"nothing"},
    "to_group_norm": {"nothing"},
    "fold": {
        "endless dataset",
        "nothing",
        "named pair",
        "tuple of four",
        "labels of another length",
    },
}


@contextmanager
def tried():
    """Where a verb is tried on one kind of data."""
    with uncompiled(), warnings.catch_warnings():
        warnings.simplefilter("ignore", bnfix.BnfixWarning)  # three features tell a group little
        yield


def assert_taken(dialect, verb, name, model):
    kernel, norm = model.layers[1].kernel, model.layers[2]
    norm.moving_mean.assign(np.full(16, 7, "float32"))
    with tried():
        VERBS[verb](model, TAKEN[name](dialect))
    if verb == "recalibrate":
        wanted = X @ np.asarray(kernel.numpy())
        found = np.asarray(norm.moving_mean.numpy())
        np.testing.assert_allclose(found, wanted.mean(0), atol=1e-5, err_msg=name)


def assert_refused(dialect, verb, name, model):
    before = [np.array(one) for one in model.get_weights()]
    with tried(), pytest.raises(bnfix.DataError) as refusal:
        VERBS[verb](model, REFUSED[name](dialect))
    assert str(refusal.value).count("Nothing was changed.") == 1
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.every(5)
@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_every_kind_of_data_for_what_it_stands_for(models, dialect, verb, name):
    assert_taken(dialect, verb, name, models[dialect])


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("verb", "name"),
    [(verb, name) for verb in VERBS for name in REFUSED if name not in SEES_LESS.get(verb, ())],
)
def test_every_verb_refuses_what_is_no_data_by_one_error(models, dialect, verb, name):
    assert_refused(dialect, verb, name, models[dialect])


def test_images_of_several_sizes_are_taken(dialect):
    rng = np.random.default_rng(0)
    sizes = [rng.random((4, side, side, 3), "float32") for side in (5, 6, 7)]
    labelled = [(x, np.ones((4, 1))) for x in sizes]
    with uncompiled():
        for verb in ("check", "recalibrate", "diagnose"):
            VERBS[verb](model_of(dialect, free=True), iter(labelled))
        invariant = bnfix.batch_invariant(model_of(dialect, free=True), 2, x=sizes[0])
        assert invariant.predict(iter(sizes)).shape == (12, 1)


def test_the_error_of_the_users_own_code_is_the_cause():
    with pytest.raises(bnfix.DataError, match=r"batch 1 cannot be read: ValueError: disk") as told:
        list(reading.batches(fails()))
    assert isinstance(told.value.__cause__, ValueError)


# --- rows, whatever they are taken of -------------------------------------------------------------


@settings(max_examples=10)
@given(
    x=st.lists(st.lists(st.sampled_from([0.0, 1.5, -2.0]), min_size=2, max_size=2), min_size=1),
    size=st.integers(1, 5),
)
def test_sparse_rows_are_those_of_the_dense_array(x, size):
    from scipy import sparse

    tensors = zoo.keras_module("keras3").ops.convert_to_tensor
    kinds = [sparse.csr_array, tensors, np.ndarray.tolist]
    kinds += [zoo.tensorflow().sparse.from_dense] if zoo.BACKEND == "tensorflow" else []
    dense = np.array(x, "float32")
    for kind in kinds:
        rows = [one.x for one in reading.batches(kind(dense), batch_size=size)]
        np.testing.assert_array_equal(np.concatenate(rows), dense)


def test_rows_of_a_file_are_read_in_parts(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = X
        read = [one.x for one in reading.batches(file["x"], batch_size=10)]
    assert [len(x) for x in read] == [10, 10, 4]
    np.testing.assert_array_equal(np.concatenate(read), X)


# --- data without an end --------------------------------------------------------------------------


def forever():
    while True:
        yield X, Y


def test_an_endless_generator_is_refused_before_memory_ends_and_steps_named(dialect, monkeypatch):
    monkeypatch.setattr(endless, "free_memory", lambda: 1e6)
    model = model_of(dialect)
    with uncompiled():
        for verb in ("recalibrate", "diagnose", "to_group_norm"):
            with pytest.raises(bnfix.DataError, match="Pass steps=, the number of batches"):
                VERBS[verb](model, forever())
        bnfix.recalibrate(model, forever(), steps=3, guard=False, verbose=0)
        VERBS["check"](model, forever())


@pytest.mark.parametrize(
    ("options", "are_held"),
    [({}, True), ({"memory_limit": "1 MiB"}, False), ({"method": "streaming"}, False)],
    ids=["exact", "memory_limit", "streaming"],
)
def test_only_what_waits_in_memory_has_to_find_room_there(options, are_held, monkeypatch):
    monkeypatch.setattr(endless, "free_memory", lambda: 1e4)
    batches = read((x for x in np.split(X, 24)), Options(**options))
    if are_held:
        with pytest.raises(bnfix.DataError, match="Pass steps=, the number of batches"):
            list(batches)
    else:
        assert len(list(batches)) == 24


def test_after_many_batches_of_unknown_end_that_is_said(monkeypatch):
    monkeypatch.setattr(endless, "SAID_AFTER", 3)
    with pytest.warns(bnfix.BnfixWarning, match="3 batches were read from the generator"):
        assert len(list(reading.batches(in_batches()))) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for known in ([X] * 9, dataset(batched=1)):
            list(reading.batches(known))
        list(reading.batches(forever(), steps=9))


def test_free_memory_is_a_number_of_bytes():
    assert 1e6 < endless.free_memory() <= float("inf")


# --- anything -------------------------------------------------------------------------------------


def arrays():
    tensors = zoo.keras_module("keras3").ops
    kinds = [
        lambda x: x,
        np.ndarray.tolist,
        tensors.convert_to_tensor,
        lambda x: x.astype("float64"),
        lambda x: x.astype("int64"),
        lambda x: x[:, :2],
        lambda x: x[:, 0],
        lambda x: x[:3],
        lambda x: x[:0],
        lambda x: x[None],
        lambda x: x.astype(str),
        lambda x: None,
        lambda x: 1.0,
        lambda x: tensors.cast(x, "bfloat16"),
        lambda x: Unreadable(),
    ]
    if zoo.BACKEND == "tensorflow":
        tf = zoo.tensorflow()
        kinds += [lambda x: tf.ragged.constant([[1.0, 2.0], [1.0]]), tf.sparse.from_dense]
    return st.sampled_from(kinds).map(lambda kind: kind(X[:8]))


def structures():
    return st.recursive(
        arrays(),
        lambda part: (
            st.lists(part, max_size=3)
            | st.lists(part, max_size=4).map(tuple)
            | st.builds(Pair, part, part)
            | st.dictionaries(st.sampled_from(["a", "b", "input_1"]), part, max_size=2)
        ),
        max_leaves=4,
    )


def sources():
    def dataset_of(structure):
        try:
            return zoo.tensorflow().data.Dataset.from_tensor_slices(structure).batch(3)
        except Exception:
            return structure

    def failing(parts):
        yield from parts
        raise OSError("the disk is gone")

    return (
        structures()
        | st.lists(structures(), max_size=3).map(iter)
        | st.lists(structures(), max_size=3).map(failing)
        | st.lists(structures(), max_size=2)
        | (structures().map(dataset_of) if zoo.BACKEND == "tensorflow" else st.nothing())
    )


FUZZED = ["check", "recalibrate", "streaming", "diagnose", "batch_invariant"]


def assert_result_or_one_error(models, data):
    model = models[data.draw(st.sampled_from(zoo.DIALECTS), label="dialect")]
    verb = data.draw(st.sampled_from(FUZZED), label="verb")
    ds = data.draw(sources(), label="ds")
    with uncompiled(), suppress(bnfix.BnfixError):
        VERBS[verb](model, ds)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_structure_gives_a_result_or_one_error(models, data):
    assert_result_or_one_error(models, data)


def test_the_law_rejects_a_reader_that_lets_errors_of_others_through(models, monkeypatch):
    monkeypatch.setattr(reading, "_reading", nullcontext)

    @settings(suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None)
    @given(data=st.data())
    def law(data):
        assert_result_or_one_error(models, data)

    with pytest.raises((OSError, RuntimeError, KeyError), match="gone"):
        law()


def test_reading_without_rules_for_kinds_would_be_seen(dialect, monkeypatch):
    """The mutant: whatever has a shape is sliced, as it was."""
    monkeypatch.setattr(columns, "_KINDS", ())
    with pytest.raises(bnfix.DataError):
        assert_taken(dialect, "recalibrate", "sparse tensor", model_of(dialect))
