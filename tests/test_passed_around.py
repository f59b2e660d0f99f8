"""Reports and errors go through process pools, into sets, and are compared."""

import copy
import pickle

import numpy as np
import pytest
import zoo

import bnfix
from bnfix.checks.measurement import Gap
from bnfix.outcomes import Report
from bnfix.recalibration.statistics import LayerStatistics


@pytest.fixture(scope="module")
def reports():
    """One of each kind, of a model whose first BN goes by the batch."""
    K = zoo.keras_module("tf_keras")
    K.utils.set_random_seed(0)
    L = K.layers
    inputs = K.Input((3,))
    x = L.BatchNormalization(name="bn")(L.Dense(16)(inputs), training=True)
    model = K.Model(inputs, L.Dense(1)(x))
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    options = {"min_count": 1, "verbose": 0, "return_report": True}
    with pytest.raises(bnfix.BatchDependenceError) as error:
        bnfix.assert_batch_invariant(model, x)
    return {
        "error": error.value,
        "check": error.value.report,
        "diagnose": bnfix.diagnose(model, x),
        "repair": bnfix.repair(model, x, **options)[1],
        "recalibrate": bnfix.recalibrate(model, x, **options)[1],
        "freeze": bnfix.freeze(model, return_report=True)[1],
    }


def test_an_error_comes_back_from_a_pickle_with_its_report(reports):
    error = reports["error"]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is bnfix.BatchDependenceError
    assert (str(again), again.path, again.report) == (str(error), "bn", error.report)


def test_every_error_comes_back_from_a_pickle():
    for name in bnfix.__all__:
        kind = getattr(bnfix, name)
        if isinstance(kind, type) and issubclass(kind, bnfix.BnfixError):
            again = pickle.loads(pickle.dumps(kind("seen.", path="a/b")))
            assert (type(again), str(again), again.path) == (kind, "seen.", "a/b")


@pytest.mark.parametrize("name", ["check", "diagnose", "repair", "recalibrate", "freeze"])
def test_a_report_equals_its_copies_and_nothing_else(reports, name):
    report = reports[name]
    for again in (pickle.loads(pickle.dumps(report)), copy.deepcopy(report)):
        assert again == report
        assert len({report, again}) == 1
    assert all(report != other for key, other in reports.items() if key != name)


def statistics(mean):
    old = np.zeros(2), np.ones(2)
    return LayerStatistics("bn", 8, *old, np.array(mean), np.ones(2), momentum=0.99)


def test_reports_are_equal_by_the_numbers_in_their_arrays():
    assert statistics([1.0, 2.0]) == statistics([1.0, 2.0])
    assert statistics([1.0, 2.0]) != statistics([1.0, 2.5])
    assert Gap(float("nan"), 1.0) == Gap(float("nan"), 1.0)
    assert hash(Gap(float("nan"), 1.0)) == hash(Gap(float("nan"), 1.0))
    assert Report("fold") != Report("freeze")
