"""Data in other units than training's are told by the deviations of all channels, and means."""

import faults
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bnfix
from bnfix.numerics.units import other_unit


def statistics(channels=16, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, channels), rng.uniform(0.1, 5.0, channels)


@given(
    factor=st.sampled_from([1 / 255, 0.2, 5.0, 127.5, 255.0]),
    noise=st.floats(0, 0.1),
    added=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 20),
)
def test_the_factor_is_found_whatever_was_added_to_the_input(factor, noise, added, seed):
    mean, variance = statistics(seed=seed)
    rng = np.random.default_rng(seed + 100)
    spread = noise * abs(np.log(factor))  # of the factors, as one kind of images has it to another
    varied = factor**2 * variance * np.exp(2 * np.clip(rng.normal(0, spread, 16), -spread, spread))
    weights = rng.choice([-1, 1], 16) * rng.uniform(1, 2, 16)  # of a channel, summed
    moved = factor * (mean + added * weights * np.sqrt(variance))
    assert other_unit(mean, variance, moved, varied) == pytest.approx(factor, rel=0.5)


def test_what_is_no_unit_is_none():
    mean, variance = statistics()
    rng = np.random.default_rng(1)
    assert other_unit(mean, variance, mean, variance) is None
    assert other_unit(mean, variance, 2 * mean, 4 * variance) is None, "too near"
    several = rng.uniform(10, 1000, 16)
    assert other_unit(mean, variance, several * mean, several**2 * variance) is None
    assert other_unit(mean, variance, 100 * mean, 100 * variance) is None, "sums, not means"
    assert other_unit(mean, variance, mean, 400 * variance) is None, "variances alone"
    assert other_unit(mean[:3], variance[:3], 255 * mean[:3], 255**2 * variance[:3]) is None


@given(
    left=st.floats(0.02, 1.0),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 30.0, 1e3]),
    noise=st.floats(0, 0.1),
    seed=st.integers(0, 20),
)
def test_too_few_updates_are_no_unit(left, scale, noise, seed):
    """Small variances beside what is left of the initial 1 make all stored ones nearly equal."""
    mean, variance = (
        factor * part for factor, part in zip((scale, scale**2), statistics(seed=seed), strict=True)
    )
    before = mean * np.exp(np.random.default_rng(seed).normal(0, noise, 16))  # as weights change
    old_mean, old_variance = (1 - left) * before, left + (1 - left) * variance
    assert other_unit(old_mean, old_variance, mean, variance) is None


def test_constant_channels_have_no_say():
    mean, variance = statistics()
    dead = np.arange(16) % 2 == 0
    mean, variance = np.where(dead, 0, mean), np.where(dead, 0, variance)
    assert other_unit(mean, variance, 255 * mean, 255**2 * variance) == pytest.approx(255)
    none = np.zeros(16)
    assert other_unit(none, none, none, none) is None


@pytest.mark.parametrize("labels", [False, True])
def test_repair_leaves_the_model_to_the_data_that_it_was_made_for(K, labels):
    made = faults.healthy(K)
    before = [np.array(w) for w in made.model.get_weights()]
    data = (made.x * 255, faults.task()[1]) if labels else made.x * 255
    model, report = bnfix.repair(made.model, data, return_report=True)
    assert report.outcome == "NOT repaired"
    assert [left.cause for left in report.found.symptoms if left.severity == "fault"] == [
        "other_units"
    ]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert any(f"about x / {number} " in report.left[0] for number in range(240, 270))


@pytest.mark.parametrize("steps", [1, 20, 88, 200])
def test_a_network_of_small_activations_that_was_trained_too_briefly_is_unconverged(K, steps):
    K.utils.set_random_seed(0)
    L = K.layers
    layers = [L.Dense(16, name="dense"), L.BatchNormalization(name="bn"), L.Dense(3, name="out")]
    model = K.Sequential([K.Input((6,)), *layers])
    x = faults.task()[0] / 50
    for _ in range(steps):
        model(x, training=True)
    found = [symptom.cause for symptom in bnfix.diagnose(model, x).symptoms]
    assert "other_units" not in found
    assert "unconverged" in found
