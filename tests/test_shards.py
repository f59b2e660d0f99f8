"""Statistics of shards add up to those of all the data, by files and processes alone."""

import subprocess
import sys
import textwrap
from functools import reduce
from operator import add

import numpy as np
import pytest
import references as ref
import zoo

import bnfix

X = np.random.default_rng(0).normal(2, 3, size=(40, 6, 6, 3)).astype("float32")
SHARDS = [X[:7], X[7:8], X[8:31], X[31:]]


def network(K, seed=0):
    K.utils.set_random_seed(seed)
    L = K.layers
    inputs = K.Input((6, 6, 3))
    x = L.BatchNormalization(name="one")(L.Conv2D(4, 3)(inputs))
    a = L.BatchNormalization(name="left")(L.Conv2D(4, 3, padding="same")(L.ReLU()(x)))
    b = L.BatchNormalization(name="right")(L.Conv2D(4, 1)(L.ReLU()(x)))
    y = L.GlobalAveragePooling2D()(L.ReLU()(L.Add()([a, b])))
    return K.Model(inputs, L.Dense(1)(L.BatchNormalization(name="last")(y)))


def stored(model):
    held = ((one.name, one.moving_mean, one.moving_variance) for one in zoo.batch_norms(model))
    return {name: (mean.numpy(), variance.numpy()) for name, mean, variance in held}


def is_off(model, wanted):
    """Largest difference in standard deviations."""
    return max(
        max(np.max(np.abs(mean - m) / np.sqrt(v)), np.max(np.abs(np.sqrt(variance / v) - 1)))
        for (mean, variance), (m, v) in zip(stored(model).values(), wanted.values(), strict=True)
    )


def rounds(model, shards, **options):
    """The exact statistics, and after how many rounds."""
    known, number = None, 0
    while known is None or not known.complete:
        parts = [bnfix.statistics(model, s, after=known, verbose=0, **options) for s in shards]
        known, number = sum(parts), number + 1
    return known, number


def test_exact_statistics_take_a_round_a_level_and_are_those_of_one_process(K):
    model = network(K)
    known, number = rounds(model, SHARDS)
    assert (number, known.rows) == (3, 40), "left and right are of one level"
    assert known.paths == ("one", "left", "right", "last")
    one = bnfix.recalibrate(network(K), X, verbose=0)
    assert known.apply(model) is model
    assert is_off(model, stored(one)) < 1e-6


def test_streamed_statistics_are_complete_at_once(K):
    model, one = network(K), network(K)
    parts = [bnfix.statistics(model, s, method="streaming", verbose=0) for s in (X[:20], X[20:])]
    assert all(part.complete for part in parts)
    sum(parts).apply(model)
    bnfix.recalibrate(one, X, method="streaming", batch_size=32, verbose=0)
    again = network(K)
    bnfix.recalibrate(again, iter([X[:20], X[20:]]), method="streaming", verbose=0)
    assert is_off(model, stored(again)) < 1e-6


def test_several_calls_of_one_layer_are_pooled(K):
    def model():
        norm = K.layers.BatchNormalization(name="norm")
        dense = K.layers.Dense(3, kernel_initializer="orthogonal")
        inputs = K.Input((6, 6, 3))
        return K.Model(inputs, norm(dense(norm(inputs))))

    one = bnfix.recalibrate(model(), X, verbose=0)
    other = model()
    other.set_weights(one.get_weights())
    known, number = rounds(other, SHARDS)
    assert known.paths == ("norm",)
    assert number > 2
    known.apply(other)
    assert is_off(other, stored(one)) < 1e-4
    assert known.rows == 40


def test_a_model_that_goes_by_its_code_takes_rounds_too(K):
    class Code(K.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.last = K.layers.Dense(4), K.layers.Dense(3)
            self.one = K.layers.BatchNormalization(name="one")
            self.two = K.layers.BatchNormalization(name="two")

        def call(self, x, training=None):
            x = self.one(self.dense(x), training=training)
            x = x + 1 if float(x[0, 0]) > -1e9 else x
            return self.two(self.last(x), training=training)

    rows = X[:, 0, 0]
    model = Code()
    model(rows[:1])
    before = ref.weights_of(model)
    known, _ = rounds(model, (rows[:10], rows[10:]))
    ref.assert_same_weights(model, before)
    assert known.paths == ("one", "two")
    known.apply(model)
    ours = stored(model)
    bnfix.recalibrate(model, rows, verbose=0)
    for (m, v), (n, w) in zip(stored(model).values(), ours.values(), strict=True):
        np.testing.assert_allclose(m, n, atol=1e-6)
        np.testing.assert_allclose(v, w, rtol=1e-5)


def test_the_law_rejects_rounds_that_normalize_by_the_shard_at_hand(K, monkeypatch):
    from bnfix.recalibration import rounds

    merged = rounds._Rounds.merged
    monkeypatch.setattr(
        rounds._Rounds,
        "merged",
        lambda self, found, *, at: merged(self, found, at=at) and dict(found),
    )
    with pytest.raises(AssertionError):
        test_exact_statistics_take_a_round_a_level_and_are_those_of_one_process(K)


def test_the_order_and_the_grouping_of_shards_change_nothing_but_rounding(K):
    model = network(K)
    parts = [bnfix.statistics(model, s, method="streaming", verbose=0) for s in SHARDS]
    one, other = reduce(add, parts), (parts[3] + parts[1]) + (parts[2] + parts[0])
    for path in one.paths:
        np.testing.assert_allclose(one.mean(path), other.mean(path), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(one.variance(path), other.variance(path), rtol=1e-12)


def test_a_prior_keeps_a_part_of_what_is_stored(K):
    model = bnfix.recalibrate(network(K), X - 3, verbose=0)
    before = stored(model)
    found = bnfix.statistics(model, X, method="streaming", verbose=0)
    found.apply(model, prior=120)
    for name, (mean, variance) in stored(model).items():
        old_mean, old_variance = before[name]
        wanted = 0.75 * old_mean + 0.25 * found.mean(name)
        np.testing.assert_allclose(mean, wanted, rtol=1e-5, atol=1e-6)
        wanted = 0.75 * old_variance + 0.25 * found.variance(name)
        np.testing.assert_allclose(variance, wanted, rtol=1e-5)


def small(K):
    model = K.Sequential([K.Input((3,)), K.layers.BatchNormalization(name="bn")])
    model.layers[-1].trainable = False
    return model


def test_options_are_those_of_recalibrate(K):
    """Frozen layers too, the population's variance, nothing kept of what is stored."""
    model, rows = small(K), X[:, 0, 0].astype("float64")
    for shards in ([rows], [rows[:1], rows[1:]]):
        found = sum(bnfix.statistics(model, shard, verbose=0) for shard in shards)
        np.testing.assert_allclose(found.mean("bn"), rows.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found.variance("bn"), rows.var(0), rtol=1e-5)
    found.apply(model)
    for part, wanted in zip(stored(model)["bn"], (rows.mean(0), rows.var(0)), strict=True):
        np.testing.assert_allclose(part, wanted, rtol=1e-5)
    unbiased = sum(bnfix.statistics(model, part, ddof=1, verbose=0) for part in np.split(rows, 2))
    np.testing.assert_allclose(unbiased.variance("bn"), rows.var(0, ddof=1), rtol=1e-5)
    assert bnfix.statistics(model, rows, include_frozen=False, layers="bn", verbose=0).paths == ()


def test_a_prior_of_less_than_a_row_counts_as_such(K):
    model, rows = small(K), X[:2, 0, 0]
    bnfix.statistics(model, rows, verbose=0).apply(model, prior=0.5)
    for part, old, now in zip(
        stored(model)["bn"], (0, 1), (rows.mean(0), rows.var(0)), strict=True
    ):
        np.testing.assert_allclose(part, 0.2 * old + 0.8 * now, rtol=1e-5)


def test_only_statistics_add_up_and_what_is_complete_goes_nowhere(K):
    found = bnfix.statistics(small(K), X[:, 0, 0], verbose=0)
    assert found.complete
    assert sum([found]) is found
    for other in (0, 1, "more"):
        with pytest.raises(TypeError):
            found + other
    for other in (1, -1, 0.0):
        with pytest.raises(TypeError):
            other + found
    with pytest.raises(bnfix.StatisticsError, match="complete already"):
        bnfix.statistics(small(K), X[:, 0, 0], after=found, verbose=0)


def test_they_are_saved_and_loaded_to_the_last_bit(K, tmp_path):
    model, file = network(K), tmp_path / "shard.npz"
    found = bnfix.statistics(model, X, verbose=0)
    found.save(file)
    with pytest.raises(bnfix.FileError, match="there already"):
        found.save(file)
    found.save(file, overwrite=True)
    again = bnfix.Statistics.load(file)
    assert (again.rows, again.complete, again.paths) == (found.rows, found.complete, found.paths)
    np.testing.assert_array_equal(again.mean("one"), found.mean("one"))
    np.testing.assert_array_equal(again.variance("one"), found.variance("one"))
    both = again + found
    assert both.rows == 80


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", None])
def test_another_file_is_refused_by_name(content, tmp_path):
    file = tmp_path / "shard.npz"
    if content is None:
        np.savez(file, text=np.array('{"format": "bnfix statistics 99"}'))
    else:
        file.write_bytes(content)
    with pytest.raises(bnfix.FileError, match=r"shard\.npz holds no statistics of bnfix 1 \("):
        bnfix.Statistics.load(file)
    with pytest.raises(bnfix.FileError, match="holds no statistics"):
        bnfix.Statistics.load(tmp_path / "none.npz")


def test_what_does_not_belong_together_does_not_add_up(K):
    model, other = network(K), network(K, seed=1)
    first = bnfix.statistics(model, X, verbose=0)
    with pytest.raises(bnfix.StatisticsError, match="do not add up"):
        first + bnfix.statistics(other, X, verbose=0)
    with pytest.raises(bnfix.StatisticsError, match="do not add up"):
        first + bnfix.statistics(model, X, after=first, verbose=0)
    with pytest.raises(bnfix.StatisticsError, match="do not add up"):
        first + bnfix.statistics(model, X, method="streaming", verbose=0)
    with pytest.raises(bnfix.StatisticsError, match=r"do not add up.*layers"):
        first + bnfix.statistics(model, X, layers=["one"], verbose=0)
    with pytest.raises(bnfix.StatisticsError, match="after= is of another model"):
        bnfix.statistics(other, X, after=first, verbose=0)


def test_what_is_not_complete_or_of_another_model_is_not_applied(K):
    model, other = network(K), network(K, seed=1)
    before = ref.weights_of(model)
    with pytest.raises(bnfix.StatisticsError, match=r"1 of more rounds.*Nothing was changed"):
        bnfix.statistics(model, X, verbose=0).apply(model)
    found = bnfix.statistics(model, X, method="streaming", verbose=0)
    for prior in (-1, -0.01, float("nan"), float("inf")):
        with pytest.raises(bnfix.OptionError, match="prior"):
            found.apply(model, prior=prior)
    ref.assert_same_weights(model, before)
    with pytest.raises(bnfix.StatisticsError, match="are not of"):
        found.apply(other)


WORKER = """
import sys
import bnfix, keras, numpy as np
model, shard, known, out = sys.argv[1:]
model, shard = keras.models.load_model(model), np.load(shard)
known = bnfix.Statistics.load(known) if known else None
bnfix.statistics(model, shard, after=known, verbose=0).save(out)
"""


@pytest.mark.long
def test_files_and_processes_are_enough(tmp_path):
    K = zoo.keras_module("keras3")
    model = network(K)
    model.save(tmp_path / "model.keras")
    (tmp_path / "worker.py").write_text(textwrap.dedent(WORKER))
    known, number = "", 0
    while not known or not bnfix.Statistics.load(known).complete:
        parts = []
        for at, shard in enumerate((X[:15], X[15:])):
            np.save(tmp_path / "shard.npy", shard)
            parts.append(tmp_path / f"{number}-{at}.npz")
            command = ["worker.py", "model.keras", "shard.npy", str(known), parts[-1].name]
            subprocess.run([sys.executable, *command], cwd=tmp_path, check=True)
        known, number = tmp_path / f"known-{number}.npz", number + 1
        sum(bnfix.Statistics.load(part) for part in parts).save(known)
    bnfix.Statistics.load(known).apply(model)
    assert is_off(model, stored(bnfix.recalibrate(network(K), X, verbose=0))) < 1e-6
