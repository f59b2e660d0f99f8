"""The guard: losses in pairs, models that give none, fixed batches, rows that outweigh all."""

import warnings
from unittest import mock

import numpy as np
import pytest
import references as ref
import zoo
from hypothesis import given
from hypothesis import strategies as st

import bnfix
from bnfix.callbacks import RecalibrateBN
from bnfix.numerics import outliers
from bnfix.numerics.outliers import Outliers
from bnfix.numerics.tolerance import LEAST_LOSS, MATTERS, NOTICEABLE, SIGNIFICANT
from bnfix.recalibration import verdict as judging
from bnfix.recalibration.statistics import LayerStatistics, RecalibrationReport
from bnfix.recalibration.verdict import Sample, Verdict


def verdict(before, after):
    return judging.Verdict.pooled([judging.compared(before, after)])


def sample(losses):
    return Sample(np.asarray(losses, np.float64), np.ones(len(losses)))


def hard_rows(number=400, seed=0):
    """Losses as a classifier has them: most rows are easy, some are not."""
    return np.random.default_rng(seed).exponential(2.0, size=number)


# --- in pairs -------------------------------------------------------------------------------------


def assert_only_what_is_no_chance_is_worse():
    before, rng = hard_rows(), np.random.default_rng(1)
    noise = rng.normal(scale=0.5, size=len(before))
    noise -= noise.mean()
    assert not verdict(sample(before), sample(before + noise + 0.01)).worse, "chance"
    assert not verdict(sample(before), sample(before + 0.001)).worse, "sure, and no matter"
    assert verdict(sample(before), sample(before + noise + 0.2)).worse
    # Sure only in pairs: the scatter of the rows themselves is ten times the difference.
    assert verdict(sample(before), sample(before + noise / 10 + 0.05)).worse


def test_only_what_is_more_than_chance_and_matters_is_worse():
    assert_only_what_is_no_chance_is_worse()


def test_the_law_rejects_a_guard_that_compares_no_pairs(monkeypatch):
    def unpaired(before, after):
        means = float(np.mean(before.losses)), float(np.mean(after.losses))
        spread = np.std(before.losses) + np.std(after.losses)
        number = len(before.losses)
        sums = [number * mean for mean in means]
        return np.array([number, *sums, number, number, means[1] - means[0], spread**2])

    monkeypatch.setattr(judging, "compared", unpaired)
    with pytest.raises(AssertionError):
        assert_only_what_is_no_chance_is_worse()


def test_a_loss_that_is_no_number_any_more_is_worse_and_one_that_was_none_is_not():
    before, nan = hard_rows(), np.full(400, np.nan)
    assert verdict(sample(before), sample(nan)).worse
    assert not verdict(sample(nan), sample(before)).worse


def test_from_two_batches_only_what_anyone_would_notice_is_worse():
    assert verdict(sample([1.0, 1.0]), sample([1.05, 1.05])).worse
    assert not verdict(sample([1.0, 1.0]), sample([1.01, 1.01])).worse


def test_parts_of_the_data_are_judged_as_the_whole():
    rng = np.random.default_rng(0)
    before, apart, rows = hard_rows(20), rng.normal(0.1, 0.3, 20), rng.integers(1, 9, 20)
    parts = [
        judging.compared(Sample(before[at], rows[at]), Sample((before + apart)[at], rows[at]))
        for at in (slice(0, 3), slice(3, 15), slice(15, 20))
    ]
    found = Verdict.pooled([parts[0], judging.compared(None, None), *parts[1:]])
    assert found.groups == 20
    assert found.before == pytest.approx(np.average(before, weights=rows))
    assert found.after == pytest.approx(np.average(before + apart, weights=rows))
    assert found.error == pytest.approx(apart.std(ddof=1) / np.sqrt(20))
    assert Verdict.pooled([judging.compared(None, sample([1.0]))] * 2) is None
    assert Verdict.pooled([judging.compared(sample([1.0]), None)] * 2) is None


@pytest.mark.parametrize(
    ("groups", "finite", "known"), [(7, 7, False), (8, 8, True), (9, 8, False)]
)
def test_scatter_is_known_from_eight_groups_of_which_all_have_a_loss(groups, finite, known):
    after = np.where(np.arange(groups) < finite, 2.0 + np.arange(groups), np.inf)
    found = verdict(sample(np.ones(groups)), sample(after))
    assert (found.error is not None) == known
    assert ("groups of rows" in str(found)) == known


def test_what_is_worse_is_so_relative_to_the_loss_that_was():
    for scale in (1.0, 100.0, -100.0, 0.0):
        few = {"error": None, "groups": 2}
        for error, least in ((few, NOTICEABLE), ({"error": 0.0, "groups": 9}, MATTERS)):
            apart = least * abs(scale) + LEAST_LOSS
            assert Verdict(scale, scale + 1.01 * apart, **error).worse
            assert not Verdict(scale, scale + 0.99 * apart, **error).worse
    assert Verdict(1.0, 2.0, error=0.99 / SIGNIFICANT, groups=9).worse
    assert not Verdict(1.0, 2.0, error=1.01 / SIGNIFICANT, groups=9).worse


def test_the_numbers_are_said():
    said = str(verdict(sample(hard_rows()), sample(hard_rows() + 0.5)))
    assert "before" in said
    assert "+0.5 +- " in said
    assert "in 400 groups" in said


# --- models ---------------------------------------------------------------------------------------


def model_of(K, **compile_options):
    K.utils.set_random_seed(0)
    layers = [K.layers.Dense(4), K.layers.BatchNormalization(name="bn"), K.layers.Dense(3)]
    model = K.Sequential([K.Input((5,)), *layers])
    if compile_options:
        model.compile(**compile_options)
    return model


def data(rows=64):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 5)).astype("float32"), rng.normal(size=(rows, 3))


@pytest.mark.filterwarnings("ignore::bnfix.BnfixWarning")  # chance decides which loss is smaller
@pytest.mark.parametrize("method", ["exact", "streaming"])
def test_the_losses_of_all_rows_are_compared_in_at_most_64_groups(K, method):
    model, options = model_of(K, optimizer="sgd", loss="mse"), {"verbose": 0, "batch_size": 40}
    _, report = bnfix.recalibrate(
        model, data(200), method=method, min_count=1, return_report=True, **options
    )
    assert report.verdict.groups == 50, "of four rows each"


@pytest.mark.filterwarnings("ignore::bnfix.BnfixWarning")  # chance decides which loss is smaller
def test_a_metric_gives_a_number_a_row_or_one_a_batch():
    model, options = model_of(zoo.keras_module("keras3")), {"verbose": 0, "batch_size": 40}
    by_row = lambda y, shown: np.square(y - shown).mean(axis=1)  # noqa: E731
    for metric, groups in ((by_row, 200), (lambda *pair: by_row(*pair).mean(), 5)):
        _, report = bnfix.recalibrate(
            model, data(200), metric=metric, return_report=True, **options
        )
        assert report.verdict.groups == groups


def test_a_report_tells_of_losses_where_some_were_compared():
    row = LayerStatistics("bn", 9, *np.ones((4, 1)), momentum=0.9)
    assert "before" not in str(RecalibrationReport((row,), 1))
    assert "0.3 before" in str(RecalibrationReport((row,), 1, verdict=Verdict(0.3, 0.2)))


def test_of_labels_that_the_loss_does_not_take_it_is_said_how_they_should_be(K):
    model = model_of(K, loss="categorical_crossentropy")
    x = data()[0]
    sparse = np.arange(len(x)) % 2
    _, report = bnfix.recalibrate(model, (x, sparse), verbose=0, return_report=True)
    assert report.verdict is None
    for notes in (report.notes, bnfix.diagnose(model, (x, sparse)).notes):
        assert any("as fit takes them, one-hot or integers" in note for note in notes)


def test_a_model_compiled_without_a_loss_is_recalibrated_and_that_is_said(K):
    model = model_of(K, optimizer="sgd")
    _, report = bnfix.recalibrate(model, data(), verbose=0, return_report=True)
    assert report.kept
    assert report.verdict is None
    assert any("losses were not compared" in note for note in report.notes)
    diagnosis = bnfix.diagnose(model, data())
    assert diagnosis.losses is None
    assert any("the labels were not used" in note for note in diagnosis.notes)
    model.get_layer("bn").moving_mean.assign(np.full(4, 9.0))
    _, story = bnfix.repair(model, data(), return_report=True)
    assert story.recalibration is not None
    assert story.ok


def test_a_training_step_of_ones_own_goes_on_when_its_loss_cannot_be_compared(K):
    tf = zoo.tensorflow()

    class Own(K.Model):
        def train_step(self, batch):
            x, y = batch[0], batch[1]
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(self(x, training=True) - tf.cast(y, tf.float32)))
            weights = self.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return {"loss": loss}

    inputs = K.Input((5,))
    x = K.layers.BatchNormalization(name="bn")(K.layers.Dense(4)(inputs))
    model = Own(inputs, K.layers.Dense(3)(x))
    model.compile(optimizer="sgd")
    model.fit(*data(), epochs=1, verbose=0, callbacks=[callback := RecalibrateBN(data())])
    assert callback.report.kept


def test_a_callback_leaves_the_statistics_with_a_warning_and_goes_on(K):
    model = model_of(K, optimizer="sgd", loss="mse")
    few = data(8)[0]
    with pytest.warns(bnfix.BnfixWarning, match="left the statistics as they are"):
        history = model.fit(*data(), epochs=2, verbose=0, callbacks=[RecalibrateBN(few)])
    assert len(history.history["loss"]) == 2
    with pytest.raises(bnfix.StatisticsError, match="min_count"):
        model.fit(*data(), verbose=0, callbacks=[RecalibrateBN(few, guard="raise")])


@pytest.mark.parametrize("rows", [20, 8])
def test_a_model_of_one_batch_size_gets_it(K, rows):
    inputs = K.Input(batch_size=8, shape=(5, 3))
    x = K.layers.LSTM(4, stateful=True)(inputs)
    model = K.Model(inputs, K.layers.Dense(2)(K.layers.BatchNormalization(name="bn")(x)))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(rows, 5, 3)).astype("float32")
    y = np.zeros((rows, 2))
    report = bnfix.diagnose(model, (x, y))
    whole = rows // 8 * 8
    options = {"verbose": 0, "guard": False, "min_count": 1, "return_report": True}
    _, recalibrated = bnfix.recalibrate(model, (x, y), **options)
    assert [layer.count for layer in report.layers] == [whole]
    left = f"the last {rows - whole} rows were left out: the model takes batches of 8"
    for notes in (report.notes, recalibrated.notes):
        assert any(left in note for note in notes) == (rows != whole), notes
    with pytest.raises(bnfix.DataError, match="5 rows, and the model takes batches of 8"):
        bnfix.recalibrate(model, x[:5], verbose=0)


# --- rows that outweigh all others --------------------------------------------------------------


def test_one_value_of_a_trillion_is_told_with_its_row_and_channel(K):
    model = model_of(K)
    x = data(200)[0]
    x[137, 2] = 1e12
    _, report = bnfix.recalibrate(model, x, verbose=0, return_report=True)
    told = [note for note in report.notes if "row 137" in note]
    assert len(told) == 1
    assert "channel 2" in told[0]
    assert "1e+12" in told[0]
    assert any("row 137" in note for note in bnfix.diagnose(model, x).notes)


def test_an_image_that_was_not_standardized_is_told_and_a_rare_feature_is_not():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(64, 4, 4, 2))
    images[9] *= 52
    seen = Outliers()
    for start in range(0, 64, 10):
        seen.update(images[start : start + 10])
    assert {found.row for found in seen.found()} == {9}
    assert [found.channel for found in seen.found()] == [0, 1]
    rare = Outliers()
    rare.update(np.eye(64, 3))
    assert rare.found() == []
    rare.update(rng.lognormal(size=(64, 3)))
    assert rare.found() == []


def outliers_by_definition(rows, middle):
    """Row, share and farthest value of every channel of which one row makes most, at once."""
    apart = np.square(rows.reshape(len(rows), -1, rows.shape[-1]) - middle)
    of_row = apart.sum(axis=1)
    share = of_row.max(axis=0) / of_row.sum(axis=0)
    return {
        int(c): (int(of_row[:, c].argmax()), share[c], rows[..., c].flat[apart[..., c].argmax()])
        for c in np.flatnonzero(share > 0.9)
    }


@given(
    seed=st.integers(0, 99),
    height=st.sampled_from([3.0, 30.0, -1e4]),
    unit=st.sampled_from([1.0, 1e-4]),
    shape=st.sampled_from([(32, 2), (40, 3, 2), (33, 2, 2, 3)]),
    block=st.sampled_from([1, 5, 1 << 16]),
    data=st.data(),
)
def test_any_split_finds_the_rows_that_make_most_of_a_channel(
    seed, height, unit, shape, block, data
):
    rng = np.random.default_rng(seed)
    rows = rng.normal(5, 1, shape)
    for channel in range(2):
        rows[rng.integers(len(rows))][..., channel].flat[0] = height * (1 + channel)
    rows *= unit
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4), label="cuts"))
    parts = np.split(rows, cuts)
    seen = Outliers()
    with mock.patch.object(outliers, "_BLOCK", block):
        for part in parts:
            seen.update(part)
    begin = next(part for part in parts if len(part))
    wanted = outliers_by_definition(rows, np.median(begin, axis=tuple(range(begin.ndim - 1))))
    found = {each.channel: (each.row, each.share, each.value) for each in seen.found()}
    assert found.keys() == wanted.keys()
    for channel, told in found.items():
        assert told == pytest.approx(wanted[channel])


def test_rows_of_one_number_too_few_rows_and_batches_of_other_channels():
    seen, rows = Outliers(), np.random.default_rng(0).normal(size=31)
    rows[4] = 1e5
    seen.update(rows)
    assert seen.found() == [], "of so few, one is no exception"
    seen.update(np.full((9, 2), 1e9))
    assert seen.found() == [], "other channels than before: not looked at"
    seen.update(np.zeros(1))
    (found,) = seen.found()
    assert (found.row, found.channel, found.value) == (4, 0, 1e5)


def test_a_row_of_nan_is_named_with_its_channels(K):
    model = model_of(K)
    before = ref.weights_of(model)
    x = data()[0]
    x[40, 1:4] = np.nan
    with pytest.raises(bnfix.DataError, match=r"look at row 8, channel 1, 2, 3") as raised:
        bnfix.recalibrate(model, x, verbose=0)
    assert "batch 1" in str(raised.value)
    ref.assert_same_weights(model, before)


def test_no_warning_comes_of_healthy_data(K):
    with warnings.catch_warnings():
        warnings.simplefilter("error", bnfix.BnfixWarning)
        _, report = bnfix.recalibrate(model_of(K), data()[0], verbose=0, return_report=True)
    assert report.notes == ()
