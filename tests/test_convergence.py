"""How much of the initial 0 and 1 stored statistics still hold, and what else may explain them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfix.numerics import convergence as module
from bnfix.numerics.convergence import convergence, distance, updates


def statistics(channels=40, seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, scale, channels), scale**2 * rng.uniform(0.2, 3.0, channels)


def after(steps, mean, variance, momentum=0.99):
    """What moving statistics are after so many steps of the very same batch statistics."""
    old_mean, old_variance = np.zeros_like(mean), np.ones_like(variance)
    for _ in range(steps):
        old_mean = momentum * old_mean + (1 - momentum) * mean
        old_variance = momentum * old_variance + (1 - momentum) * variance
    return old_mean, old_variance


@given(
    steps=st.integers(0, 300),
    momentum=st.sampled_from([0.9, 0.99, 0.999]),
    seed=st.integers(0, 5),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_the_number_of_updates_is_recovered_exactly(steps, momentum, seed, scale):
    mean, variance = statistics(seed=seed, scale=scale)
    old = after(steps, mean, variance, momentum)
    found = convergence(*old, mean, variance, momentum=momentum)
    if distance(*old, mean, variance) <= module.NEGLIGIBLE:
        assert found is None
        return
    assert found.fraction == pytest.approx(momentum**steps, rel=1e-6)
    assert found.updates == pytest.approx(steps, rel=1e-6, abs=1e-6)
    assert found.explained == pytest.approx(1.0)


def several_momenta(steps, momenta=(0.9, 0.99, 0.999)):
    """Arguments of `convergence` for one layer of each momentum, their channels interleaved."""
    layers = [statistics(seed=seed) for seed in range(len(momenta))]
    old = [after(steps, *layer, momentum) for layer, momentum in zip(layers, momenta, strict=True)]
    return [
        np.stack(parts, axis=1) for found in (old, layers) for parts in zip(*found, strict=True)
    ]


@pytest.mark.parametrize("steps", [0, 1, 37, 900])
def test_layers_of_several_momenta_have_seen_the_same_number_of_updates(steps):
    found = convergence(*several_momenta(steps), momentum=np.tile([0.9, 0.99, 0.999], 40))
    assert found.updates == pytest.approx(steps, rel=0.01)
    assert found.fraction == pytest.approx(0.9**steps, rel=0.05 + steps / 1000)
    assert found.explained > 0.999


@pytest.mark.parametrize(("momentum", "same_as"), [(1.5, 1.0), (-0.5, 0.0)])
def test_a_momentum_out_of_bounds_is_taken_for_the_nearest_within(momentum, same_as):
    values = several_momenta(5, (0.9, 0.99, same_as))
    one, other = (
        convergence(*values, momentum=np.tile([0.9, 0.99, last], 40))
        for last in (momentum, same_as)
    )
    assert one == other
    assert one.updates == pytest.approx(5, rel=0.01)


def test_a_fraction_lies_between_none_and_all():
    mean, _ = statistics()
    ones = np.ones_like(mean)
    assert convergence(1.3 * mean, ones, mean, ones, momentum=0.99) is None, "beyond the data"
    found = convergence(-0.4 * mean, ones, mean, ones, momentum=0.99)
    assert (found.fraction, found.updates) == (1.0, 0.0)


def test_a_channel_that_never_varies_does_not_decide_alone():
    mean, variance = statistics()
    old_mean, old_variance = after(50, mean, variance)
    variance = variance.copy()
    variance[0], mean[0] = 1e-30, 0.0  # has died since; its stored variance is of another time
    found = convergence(old_mean, old_variance, mean, variance, momentum=0.99)
    assert found.updates == pytest.approx(50, rel=0.15)


def test_batches_that_differ_and_a_network_that_changes_leave_the_fraction_near():
    mean, variance = statistics(channels=200)
    old_mean, old_variance = after(90, mean, variance)
    rng = np.random.default_rng(1)
    old_mean = old_mean + rng.normal(0, 0.3, 200) * np.sqrt(variance)
    old_variance = old_variance * rng.uniform(0.7, 1.4, 200)
    found = convergence(old_mean, old_variance, mean, variance, momentum=0.99)
    assert found.fraction == pytest.approx(0.99**90, rel=0.2)
    assert module.ENOUGH < found.explained < 1


def test_another_domain_is_not_taken_for_too_few_updates():
    mean, variance = statistics()
    rng = np.random.default_rng(2)
    moved = mean + rng.normal(0, 1.5, 40) * np.sqrt(variance)
    assert convergence(moved, variance * 1.7, mean, variance, momentum=0.99) is None


@pytest.mark.parametrize(("share", "told"), [(0.9, False), (1.1, True)])
def test_what_a_sample_leaves_by_chance_is_not_explained_however_many_channels(share, told):
    mean, variance = statistics()
    fraction = share * module.NEGLIGIBLE / distance(0 * mean, 1 + 0 * mean, mean, variance)
    old = (1 - fraction) * mean, (1 - fraction) * variance + fraction
    assert distance(*old, mean, variance) == pytest.approx(share * module.NEGLIGIBLE, rel=0.05)
    found = convergence(*old, mean, variance, momentum=0.99)
    assert (found is not None) == told


@pytest.mark.parametrize("channels", [0, 40])
def test_where_nothing_is_apart_there_is_nothing_to_explain(channels):
    mean, variance = statistics(channels)
    assert distance(mean, variance, mean, variance) == 0
    assert convergence(mean, variance, mean, variance, momentum=0.99) is None


def test_what_is_not_finite_explains_nothing():
    mean, variance = statistics()
    old_mean, old_variance = after(9, mean, variance)
    old_mean[3] = np.nan
    assert convergence(old_mean, old_variance, mean, variance, momentum=0.99) is None


def test_a_momentum_that_forgets_at_once_or_never_tells_no_number():
    assert updates(0.5, 0.0) is None
    assert updates(0.5, 1.0) is None
    assert updates(0.0, 0.99) == math.inf
    assert updates(1.0, 0.99) == 0


def test_the_law_rejects_a_fit_that_forgets_that_variances_begin_at_1(monkeypatch):
    def towards_zero(*statistics):
        pulls, gaps = original(*statistics)
        return np.stack([pulls[0], pulls[1] - 1 / np.maximum(statistics[1], statistics[3])]), gaps

    original = module._terms
    monkeypatch.setattr(module, "_terms", towards_zero)
    mean, variance = statistics(scale=0.3)
    found = convergence(*after(20, mean, variance), mean, variance, momentum=0.99)
    assert found is None or abs(found.updates - 20) > 2


def test_a_channel_that_is_constant_everywhere_is_no_reason_for_an_overflow():
    for momentum in (0.9, [0.9, 0.99]):
        found = convergence([0.5, 3.0], [0.0, 2.0], [0.5, 1.0], [0.0, 1.0], momentum=momentum)
        assert found is None


@pytest.mark.parametrize("tiny", [0.0, 1e-44, 1e-12])
def test_what_epsilon_hides_is_no_distance(tiny):
    """Channels constant in file and data: the layer divides both by the root of epsilon."""
    mean, variance = statistics(scale=1.0)
    dead = np.arange(40) % 4 == 0
    old = np.where(dead, 1e-9, mean), np.where(dead, tiny, variance)
    new = np.where(dead, 0.0, mean), np.where(dead, 1e-40, variance)
    assert distance(*old, *new, epsilon=1e-3) < 1e-6
    assert convergence(*old, *new, momentum=0.99, epsilon=1e-3) is None
    assert distance(*old, *new) > 1e-4, "were it not for epsilon"
    live = np.where(dead, 0.1, mean), old[1]
    root = np.sqrt(1e-3)
    wanted = np.sqrt(np.mean(np.square(dead * 0.1 / root)) / 2)  # of means and variances
    assert distance(*live, *new, epsilon=1e-3) == pytest.approx(wanted, rel=1e-6)
