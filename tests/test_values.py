"""What is noted of a model stays what it was, however its variables are written to afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zoo

from bnfix.adapters import values
from bnfix.adapters.choose import adapter_of


def _assign(K: Any, model: Any, kernel: Any) -> None:
    kernel.assign(np.ones(kernel.shape, "f"))


def _add(K: Any, model: Any, kernel: Any) -> None:
    kernel.assign_add(np.ones(kernel.shape, "f"))


def _slice(K: Any, model: Any, kernel: Any) -> None:
    tf = zoo.tensorflow()
    variable = kernel if isinstance(kernel, tf.Variable) else kernel.value
    variable[0].assign(np.full(kernel.shape[1:], 7.0, "f"))


def _train(K: Any, model: Any, kernel: Any) -> None:
    model.compile(K.optimizers.SGD(0.1), "mse")
    model.train_on_batch(np.ones((2, 3), "f"), np.ones((2, 4), "f"))


def _in_compiled_code(K: Any, model: Any, kernel: Any) -> None:
    tf = zoo.tensorflow()

    def more() -> None:
        kernel.assign_add(kernel * 0 + 1.0)

    tf.function(more, autograph=False)()


@pytest.mark.parametrize("write", [_assign, _add, _slice, _train, _in_compiled_code])
def test_what_is_noted_is_put_back(K: Any, write: Callable[[Any, Any, Any], None]) -> None:
    model, kernel, before = _dense(K)
    with adapter_of(model).untouched(model):
        write(K, model, kernel)
        assert not np.array_equal(kernel.numpy(), before)
    np.testing.assert_array_equal(kernel.numpy(), before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_dtype_is_put_back(K: Any, dtype: str) -> None:
    model = K.Sequential([K.Input((3,)), K.layers.Dense(4, dtype=dtype)])
    kernel = model.layers[-1].kernel
    before = kernel.numpy().copy()
    with adapter_of(model).untouched(model):
        kernel.assign(kernel * 2 + 1)
    assert kernel.numpy().tobytes() == before.tobytes()


def test_a_zero_that_lost_its_sign_is_put_back(K: Any) -> None:
    model, kernel, _ = _dense(K)
    kernel.assign(np.full(kernel.shape, -0.0, "f"))
    with adapter_of(model).untouched(model):
        kernel.assign(np.zeros(kernel.shape, "f"))
    assert np.signbit(kernel.numpy()).all()


def test_memory_that_is_written_to_in_place_would_be_found(
    K: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: a value that assignments reach is equal to itself, and stays changed."""
    model, kernel, before = _dense(K)
    held = kernel.numpy().copy()
    monkeypatch.setattr(values.Values, "copy_value", lambda self, variable: held)
    with adapter_of(model).untouched(model):
        kernel.assign_add(np.ones(kernel.shape, "f"))
        held += 1.0
    assert not np.array_equal(kernel.numpy(), before)


def _dense(K: Any) -> tuple[Any, Any, Any]:
    model = K.Sequential([K.Input((3,)), K.layers.Dense(4)])
    kernel = model.layers[-1].kernel
    return model, kernel, kernel.numpy().copy()
