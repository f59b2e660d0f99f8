"""What holds of the class of each backend, whether its library is installed or not."""

import ast
from pathlib import Path

import numpy as np
import pytest
import zoo

from bnfix.adapters import backends
from bnfix.adapters.backends import base
from bnfix.adapters.choose import adapter_of

FOLDER = Path(backends.__file__).parent
CLASSES = {"tensorflow": "TensorFlow", "jax": "Jax", "torch": "Torch"}


def wanted(of):
    """Names that a class derived of `of` has to state: methods, and what is declared of a class."""
    declared = {name for cls in of.__mro__ for name in vars(cls).get("__annotations__", {})}
    return set(of.__abstractmethods__) | declared


def stated(source, name):
    """Names that the class `name` defines in `source`, and the name of what it is derived of."""
    found = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    assigned = (node for node in found.body if isinstance(node, ast.Assign))
    names = {target.id for node in assigned for target in node.targets}
    names |= {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    return names, found.bases[0].id


def unstated(source, name):
    names, of = stated(source, name)
    return wanted(getattr(base, of)) - names


@pytest.mark.parametrize("library", CLASSES)
def test_each_backend_says_what_it_does_about_whatever_differs(library):
    source = (FOLDER / f"{library}.py").read_text()
    assert not unstated(source, CLASSES[library])


@pytest.mark.parametrize("member", ["uncompiled", "compiling_pays_from", "remembered"])
def test_the_law_sees_a_member_that_is_left_out(member):
    source = (FOLDER / "jax.py").read_text().replace(f" {member}", f" other_{member}")
    assert unstated(source, "Jax") == {member}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_one_place_makes_arrays_of_what_a_model_gives(K, dialect, dtype):
    to_numpy = adapter_of(K.Sequential([K.layers.Dense(1)])).to_numpy
    values = np.arange(6).reshape(2, 3)
    keras3 = dialect == "keras3"
    to_tensor = K.ops.convert_to_tensor if keras3 else zoo.tensorflow().constant
    tensor = to_tensor(values, dtype)
    got = to_numpy(tensor)
    assert got.dtype.name == dtype.replace("bfloat16", "float32")
    np.testing.assert_array_equal(got, values)
    np.testing.assert_array_equal(to_numpy(got), values)


def assert_a_function_that_is_there_is_not_traced_anew(K, run):
    """`run(model, batch)` calls `predict`, before and after a user does so with arrays."""
    traced = []

    class Counting(K.layers.Layer):
        def call(self, x):
            traced.append(x.shape)
            return x

    x = np.ones((8, 3), "float32")
    for first in (True, False):
        inputs = K.Input((3,))
        model = K.Model(inputs, Counting()(inputs))
        for by_user in (first, not first):
            before = len(traced)
            for rows in (8, 1, 4, 3):
                batch = x[:rows]
                if by_user:
                    model.predict(batch, batch_size=rows, verbose=0)
                else:
                    np.testing.assert_array_equal(run(model, batch), batch)
            assert (len(traced) > before) == (by_user is first), traced


def test_predict_runs_the_function_that_users_have_and_that_they_will_have(K):
    zoo.tensorflow()

    def run(model, batch):
        adapter = adapter_of(model)
        return adapter.to_numpy(adapter.entry_points(model)["predict"](adapter.fed(batch)))

    assert_a_function_that_is_there_is_not_traced_anew(K, run)


def test_the_law_rejects_batches_of_another_structure(K):
    tf = zoo.tensorflow()

    def run(model, batch):
        data = tf.data.Dataset.from_tensor_slices((batch,)).batch(len(batch), drop_remainder=True)
        return model.predict(data, verbose=0)

    with pytest.raises(AssertionError):
        assert_a_function_that_is_there_is_not_traced_anew(K, run)
