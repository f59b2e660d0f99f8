"""What in a configuration would run code: all of that is named, and nothing that is Keras's own."""

import pytest

from bnfix.files.symbols import is_of_tensors, only_computes, operation_only_computes
from bnfix.files.trust import Danger, Missing, concerns


def found(config, given=()):
    return [type(concern).__name__ for concern in concerns(config, given)]


def named(module, kind, config=None, registered=None):
    inner = {} if config is None else config
    return {"module": module, "class_name": kind, "config": inner, "registered_name": registered}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"class_name": "Dense", "config": {"activation": "relu"}},
        named("keras.layers", "Dense"),
        named("keras", "Sequential", {"layers": []}),
        named("keras", "DTypePolicy", {"name": "float32"}),
        named("keras.src.models.functional", "Functional", registered="Functional"),
        named("keras.engine.functional", "Functional"),
        named("tf_keras.src.engine.functional", "Functional"),
        named("keras.src.ops.numpy", "Add"),
        named("builtins", "function", "relu", "function"),
        named("keras.activations", "function", "gelu"),
        {"class_name": "__keras_tensor__", "config": {"shape": [None, 2]}},
        {"class_name": "__tuple__", "items": [1, 2]},
        {"class_name": "Custom>Adam", "config": {}},
        {"class_name": "TFOpLambda", "config": {"function": "math.multiply"}},
        {"class_name": "TensorFlowOpLayer", "config": {"node_def": {"op": "DepthToSpace"}}},
        {"class_name": "InstanceMethod", "config": {"attr_name": "to_tensor"}},
        {"class_name": "StringLookup", "config": {"vocabulary": ["a", "b"]}},
        named("tensorflow.python.framework.tensor", "__typespec__", [])
        | {"spec_name": "TensorSpec"},
    ],
)
def test_what_is_keras_own_is_let_through(config):
    assert found({"layers": [{"config": config}]}) == []


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"class_name": "__lambda__"}, Danger),
        ({"function_type": "lambda"}, Danger),
        ({"mask_type": "lambda"}, Danger),
        ({"class_name": "Lambda", "config": {"function": ["4wE=", None, None]}}, Danger),
        ({"function_type": "function", "function": "sampling"}, Missing),
        ({"class_name": ["Lambda"]}, Danger),
        (named("os", "function", "system"), Missing),
        (named("builtins", "function", "eval"), Missing),
        (named("builtins", "function", "__import__"), Missing),
        (named("keras.utils", "function", "get_file"), Missing),
        (named("keras.models", "function", "load_model"), Missing),
        (named("keras.models", "load_model"), Missing),
        (named("keras.initializers", "get"), Missing),
        (named("keras.layers", "he_uniform"), Missing),
        (named("evil.initializers", "he_uniform"), Missing),
        (named("keras", "layers.Lambda"), Missing),
        (named("keras_evil", "Layer"), Missing),
        (named("keras.evil", "Layer"), Missing),
        (named("package", "Layer", registered="Package>Layer"), Missing),
        (named(None, "Layer", registered="Package>Layer"), Missing),
        ({"class_name": "Package>Layer", "config": {}}, Missing),
        (named("os", "__typespec__", []) | {"spec_name": "EvilSpec"}, Missing),
        (named("keras.layers", "x", registered="TFSMLayer"), Danger),
        (named("keras.layers", "TorchModuleWrapper"), Danger),
        ({"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}, Danger),
        ({"class_name": "TFOpLambda", "config": {}}, Danger),
        ({"class_name": "TensorFlowOpLayer", "config": {"node_def": "x"}}, Danger),
        ({"class_name": "InstanceProperty", "config": {"attr_name": "__class__"}}, Danger),
        ({"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}, Danger),
    ],
)
def test_what_is_not_is_named(config, kind):
    assert kind.__name__ in found({"layers": [{"config": {"inner": config}}]})


def test_what_the_user_has_given_is_let_through_by_bare_and_by_full_name():
    config = named("package", "Layer", registered="Package>Layer")
    assert found(config, {"Layer"}) == []
    assert found(config, {"Package>Layer"}) == []
    assert found(named("package", "function", "act"), {"act"}) == []
    assert found(config, {"Other"}) == ["Missing"]


def test_what_is_given_does_not_excuse_bytecode():
    config = {"class_name": "Lambda", "config": {"function_type": "lambda"}}
    assert found(config, {"Lambda", "lambda"}) == ["Danger"]


def test_the_layer_concerned_is_told():
    config = {"class_name": "Dense", "config": {"name": "head", "activation": named("os", "X")}}
    (concern,) = concerns({"layers": [config]})
    assert (concern.where, concern.name, concern.module) == ("head", "X", "os")


COMPUTE = "math.add nn.relu __operators__.getitem reshape compat.v1.nn.relu keras.backend.mean cast"
OTHERS = (
    "io.write_file io.gfile.rmtree py_function numpy_function compat.v1.py_func load_op_library "
    "raw_ops.WriteFile saved_model.load train.Checkpoint data.Dataset print __import__ "
    "keras.backend.clear_session keras.models.load_model keras.utils.get_file function "
    "math.__name__ io.read_file summary.write distribute.Server config.set_visible_devices"
)


def test_tensorflow_functions_that_only_compute_are_told_from_others():
    assert [name for name in COMPUTE.split() if not only_computes(name)] == []
    assert [name for name in OTHERS.split() if only_computes(name)] == []


COMPUTING = "AddV2 ConcatV2 MatMul BatchMatMulV2 Conv2D DepthToSpace StridedSlice Mean Pad"
DOING = "WriteFile ReadFile PyFunc EagerPyFunc SaveV2 RestoreV2 MatchingFiles Print"


def test_operations_and_attributes_likewise():
    assert [name for name in COMPUTING.split() if not operation_only_computes(name)] == []
    assert [name for name in [*DOING.split(), "", "x"] if operation_only_computes(name)] == []
    assert is_of_tensors("to_tensor")
    assert not any(is_of_tensors(name) for name in ("__class__", "graph", "eval", "op"))


@pytest.mark.parametrize("name", ["he_uniform", "glorot_normal", "zeros"])
def test_classes_are_known_by_the_names_of_their_functions_too(name):
    assert not found({"layers": [named("keras.initializers", name)]})


def test_a_file_that_names_an_initializer_of_tensorflow_1_is_opened(tmp_path):
    import zoo

    import bnfix

    tf = zoo.tensorflow()
    K = zoo.keras_module("tf_keras")
    with tf.device("CPU"):
        first = tf.compat.v1.initializers.he_uniform()
    model = K.Sequential([K.Input((3,)), K.layers.Dense(2, kernel_initializer=first)])
    for name in ("a.keras", "a.h5"):
        bnfix.save(model, tmp_path / name)
        assert bnfix.load(tmp_path / name).count_params() == 8
