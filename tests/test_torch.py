"""What is PyTorch's own: gradients, 16-bit arrays, float64, its data, its exports, its buffers."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.adapters.subject import Subject
from bnfix.graph.edit import Edit

pytestmark = pytest.mark.skipif(
    zoo.BACKEND != "torch", reason="is for PyTorch: set KERAS_BACKEND=torch"
)

HALF = ("mixed_bfloat16", "bfloat16", "mixed_float16")


@pytest.fixture
def K():
    return zoo.keras_module("keras3")


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def images(rows=24):
    return np.random.default_rng(0).normal(3, 2, (rows, 8, 8, 3)).astype("float32")


def network(K, dtype="float32", training=None, between=None):
    """Two BNs on images, the second called with `training`; the layer `between` them."""
    L = K.layers
    K.utils.set_random_seed(0)
    own = {"dtype": dtype}
    inputs = K.Input((8, 8, 3))
    x = L.Conv2D(4, 3, **own)(inputs)
    x = L.ReLU(**own)(L.BatchNormalization(name="first", **own)(x))
    x = x if between is None else between(x)
    x = L.Conv2D(4, 3, **own)(x)
    said = {} if training is None else {"training": training}
    x = L.GlobalAveragePooling2D(**own)(L.BatchNormalization(name="second", **own)(x, **said))
    return K.Model(inputs, L.Dense(3, **own)(x))


def statistics(model):
    return [ref.statistics(layer) for layer in zoo.batch_norms(model)]


def apart(model, other):
    """Largest difference of any statistics, in standard deviations."""
    norms = zoo.batch_norms(model)
    triples = zip(norms, statistics(model), statistics(other), strict=True)
    return max(ref.deviation(*triple) for triple in triples)


# --- 16 bits, and limits of memory ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", *HALF])
def test_what_waits_on_disk_is_what_waits_in_memory(K, dtype):
    model, other = network(K, dtype), network(K, dtype)
    bnfix.recalibrate(model, images(), batch_size=8, min_count=1, memory_limit=1 << 30)
    bnfix.recalibrate(other, images(), batch_size=8, min_count=1, memory_limit=50_000)
    # Under the lower limit fewer rows go together, through kernels that round in other ways.
    close = 1e-6 if dtype == "float32" else 1e-2
    assert apart(other, model) < close


@pytest.mark.parametrize("dtype", HALF)
def test_sixteen_bits_come_through_every_verb(K, dtype):
    model, x = network(K, dtype), images()
    bnfix.recalibrate(model, x, method="streaming", min_count=1)
    bnfix.recalibrate(model, x, min_count=1)
    wide = network(K)
    wide.set_weights([np.asarray(weight, "float32") for weight in model.get_weights()])
    assert apart(bnfix.recalibrate(wide, x, min_count=1), model) < 0.05
    assert bnfix.diagnose(model, x, verbose=0).ok
    assert bnfix.check(bnfix.to_group_norm(model, x), x).ok
    assert bnfix.check(bnfix.repair(network(K, dtype, training=True), x), x).ok


def test_bits_of_a_16_bit_tensor_are_seen_and_not_copied(K, torch):
    view = adapter_of(network(K)).view
    tensor = torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16, requires_grad=True)
    assert view(tensor).dtype.name == "bfloat16"
    np.testing.assert_array_equal(view(tensor).astype("float32"), tensor.detach().float().numpy())
    with torch.no_grad():
        seen = view(tensor)
        tensor[0] = 7
    assert seen[0] == 7


# --- gradients -----------------------------------------------------------------------------------


def graphs_kept(K, torch, run):
    """Whether gradients were on in the calls of a layer within the model that `run` is given."""
    seen = []

    class Spy(K.layers.Layer):
        def call(self, x):
            if not isinstance(x, K.KerasTensor) and x.device.type != "meta":
                seen.append(torch.is_grad_enabled())
            return x * 1.0

    model = network(K, between=Spy())
    seen.clear()
    run(model)
    assert torch.is_grad_enabled(), "gradients were left off"
    assert seen, "the model was not run"
    return any(seen)


VERBS = {
    "recalibrate": lambda model: bnfix.recalibrate(model, images(), batch_size=1, min_count=1),
    "streaming": lambda m: bnfix.recalibrate(m, images(), method="streaming", min_count=1),
    "diagnose": lambda model: bnfix.diagnose(model, images(), verbose=0),
    "to_group_norm": lambda model: bnfix.to_group_norm(model, images()),
    "fold": lambda model: bnfix.fold(model, x=images()),
    "check": lambda model: bnfix.check(model, images()),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_forward_pass_keeps_what_only_gradients_need(K, torch, verb):
    assert not graphs_kept(K, torch, VERBS[verb])


def test_the_law_sees_a_graph_that_is_kept(K, torch):
    assert graphs_kept(K, torch, lambda model: model(images()))


# --- data ----------------------------------------------------------------------------------------


def test_a_tensor_that_a_gradient_is_wanted_of_is_data(K, torch):
    wanted = bnfix.recalibrate(network(K), images(), min_count=1)
    x = torch.tensor(images(), requires_grad=True)
    assert apart(bnfix.recalibrate(network(K), x, min_count=1), wanted) == 0
    assert bnfix.check(network(K), x).ok


@pytest.mark.parametrize("labelled", [True, False])
def test_a_data_loader_is_data(K, torch, labelled):
    wanted = bnfix.recalibrate(network(K), images(), batch_size=5, min_count=1)
    x = torch.tensor(images())
    rows = torch.utils.data.TensorDataset(x, torch.zeros(len(x))) if labelled else x
    loader = torch.utils.data.DataLoader(rows, batch_size=5)
    assert apart(bnfix.recalibrate(network(K), loader, min_count=1), wanted) == 0
    assert bnfix.check(network(K), loader).ok


def test_a_float64_tensor_loses_nothing(torch):
    from bnfix.data.batches import batches

    x = torch.tensor([[1.0 + 2.0**-40]], dtype=torch.float64)
    assert next(batches(x)).x == x.numpy()
    assert next(batches(x.bfloat16())).x == 1.0


# --- float64 -------------------------------------------------------------------------------------


def folded_far_from_zero(K):
    """A folded model, and notes on its proof; in float32 nothing is left of what its BN passes."""
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input((4,))
    x = L.Dense(5, bias_initializer=K.initializers.Constant(1e4))(inputs)
    norm = L.BatchNormalization(epsilon=1e-12)
    model = K.Model(inputs, L.Dense(2)(norm(x)))
    norm.moving_mean.assign(np.full(5, 1e4))
    norm.moving_variance.assign(np.full(5, 1e-2))
    folded, report = bnfix.fold(model, return_report=True)
    return folded, report.notes


def test_a_right_fold_is_proven_in_float64(K):
    folded, notes = folded_far_from_zero(K)
    assert not zoo.batch_norms(folded)
    assert any("in float64" in note for note in notes)


def test_the_law_rejects_a_proof_that_is_rounded_down(K, monkeypatch):
    monkeypatch.setattr(type(adapter_of(network(K)).backend), "float64", lambda self: nullcontext())
    assert not any("in float64" in note for note in folded_far_from_zero(K)[1])


def test_float64_is_kept_within_the_block_alone(K):
    """Fails loudly if Keras calls its table otherwise, or no longer rounds down."""
    backend, result = adapter_of(network(K)).backend, partial(K.backend.result_type, "float64")
    assert result("float32") == "float32"
    with backend.float64():
        assert result("float32") == "float64"
    assert result("float32") == "float32"
    with pytest.raises(ZeroDivisionError), backend.float64():
        _ = 1 / 0
    assert result("float32") == "float32"


def test_a_model_declared_float64_is_judged_by_what_it_computes_in(K):
    model = network(K, "float64")
    assert adapter_of(model).coarsest_dtype(model) == "float32"
    report = bnfix.check(model, images())
    assert report.ok, str(report)
    baked = bnfix.check(network(K, "float64", training=True), images())
    assert [finding.path for finding in baked.findings] == ["second"], str(baked)
    with adapter_of(model).backend.float64():
        assert adapter_of(model).coarsest_dtype(model) == "float64"


# --- modules of PyTorch's own --------------------------------------------------------------------


def wrapping(K, torch):
    """A model without BatchNormalization of Keras's, and a module in it that has one, and one."""
    K.utils.set_random_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))

    class Wrapping(K.Model):
        def __init__(self):
            super().__init__()
            self.inner = K.layers.TorchModuleWrapper(module, name="inner")
            self.dense = K.layers.Dense(2)

        def call(self, x, training=None):
            x = self.inner(K.ops.transpose(x, (0, 3, 1, 2)), training=training)
            return self.dense(K.ops.mean(x, axis=(2, 3)))

    model = Wrapping()
    model(images(2), training=False)
    return model, module


def bits(module):
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def test_buffers_are_as_before_a_check_that_has_seen_them_change(K, torch):
    model, module = wrapping(K, torch)
    before = bits(module)
    report = bnfix.check(model, images())
    assert report.culprit == "inner"
    assert "inference_changes_weights" in str(report)
    assert bits(module) == before


def test_the_law_rejects_a_check_that_knows_variables_of_keras_alone(K, torch, monkeypatch):
    model, module = wrapping(K, torch)
    before = bits(module)
    monkeypatch.setattr(type(adapter_of(model).backend), "remembered", lambda self, layers: ())
    bnfix.check(model, images())
    assert bits(module) != before


def test_a_batch_norm_out_of_reach_is_told_by_every_verb_that_is_about_them(K, torch):
    model, module = wrapping(K, torch)
    before = bits(module)
    with pytest.raises(bnfix.UnsupportedModelError, match=r"inner/1 is a BatchNorm2d"):
        bnfix.recalibrate(model, images())
    _, frozen = bnfix.freeze(model, return_report=True)
    told = bnfix.diagnose(model).notes
    assert all(any("inner/1 is a BatchNorm2d" in note for note in n) for n in (frozen.notes, told))
    assert bits(module) == before
    assert not any("BatchNorm2d" in note for note in bnfix.diagnose(network(K)).notes)


# --- exports -------------------------------------------------------------------------------------


def two_towers(K):
    inputs = {"a": K.Input((3,), name="a"), "b": K.Input((3,), name="b")}
    joined = K.layers.Add()(list(inputs.values()))
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    return K.Model(inputs, K.layers.BatchNormalization()(joined)), {"a": x, "b": -2 * x}


def test_the_program_that_is_exported_is_checked_with_batches_of_any_length(K):
    report = bnfix.check(network(K, training=True), images(), export=True)
    (found,) = report.findings
    assert found.path == "second"
    assert "export" in found.entry_point
    for model, x in ((network(K), images()), two_towers(K)):
        calm = bnfix.check(model, x, export=True)
        assert calm.ok, str(calm)
        assert "export" in [one.entry_point for one in calm.measurements]


def test_the_law_rejects_an_export_for_one_length(K, monkeypatch):
    from bnfix.adapters.backends import torch as module

    monkeypatch.setattr(module, "map_leaves", lambda fn, taken: {})
    with pytest.raises(bnfix.ModelError, match="cannot be run through export"):
        bnfix.check(network(K), images(), export=True)


def test_a_model_that_cannot_be_exported_is_checked_in_the_other_ways(K, torch):
    model, _ = wrapping(K, torch)
    report = bnfix.check(model, images(), export=True)
    assert {one.entry_point for one in report.measurements} == {"predict", "call"}
    assert any("declares no inputs" in note for note in report.notes)


@pytest.mark.parametrize("meant", ["eval", "no_grad"])
def test_neither_eval_nor_no_grad_mends_a_baked_training(K, torch, meant):
    model, x = network(K, training=True), images(8)
    with torch.no_grad() if meant == "no_grad" else nullcontext():
        model.eval() if meant == "eval" else None
        alone, beside = (ref.numbers(model(x[:rows]))[0][0] for rows in (1, 8))
    assert np.abs(alone - beside).max() > 0.01


# --- layers as attributes -------------------------------------------------------------------------


def within_a_wrapper(K):
    frame = K.Sequential([K.Input((6, 6, 2)), K.layers.Conv2D(3, 3), K.layers.BatchNormalization()])
    model = K.Sequential([K.Input((4, 6, 6, 2)), K.layers.TimeDistributed(frame)])
    zoo.randomise_batch_norms(model, 0)
    return model


def assert_a_copy_runs_what_it_lists(K):
    model = within_a_wrapper(K)
    copy = rebuild(Reading(Subject.of(model)), Edit()).model
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 6, 2)).astype("float32")
    np.testing.assert_array_equal(copy.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_copy_runs_the_layers_that_it_lists(K):
    assert_a_copy_runs_what_it_lists(K)


def test_the_law_rejects_modules_that_are_passed_over(K, monkeypatch):
    backend = adapter_of(within_a_wrapper(K)).backend
    monkeypatch.setattr(type(backend), "attributes", lambda self, layer: vars(layer))
    with pytest.raises(AssertionError):
        assert_a_copy_runs_what_it_lists(K)


# --- devices -------------------------------------------------------------------------------------


@pytest.fixture
def on(K, monkeypatch):
    """Keras is said to put tensors on a kind of device."""
    backend = adapter_of(network(K)).backend

    def put(kind):
        monkeypatch.setattr(type(backend), "_device", property(lambda self: kind))
        return backend

    return put


@pytest.mark.parametrize(
    ("kind", "matmul", "convolution", "digits"),
    [
        ("cpu", True, True, "float32"),
        ("cuda", False, False, "float32"),
        ("cuda", True, False, "tensorfloat32"),
        ("cuda", False, True, "tensorfloat32"),
    ],
)
def test_the_switches_of_pytorch_say_how_products_are_rounded(
    on, torch, kind, matmul, convolution, digits
):
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch, allowed in zip(switches, (matmul, convolution), strict=True):
            switch.allow_tf32 = allowed
        assert on(kind).product_dtype == digits
    finally:
        for switch, allowed in zip(switches, before, strict=True):
            switch.allow_tf32 = allowed


def test_the_device_is_that_of_keras_and_not_what_pytorch_could_have(K):
    backend = adapter_of(network(K)).backend
    assert not backend.accelerated
    with K.device("meta"):
        assert backend.accelerated


def test_a_proof_in_float64_runs_on_the_processor_where_the_device_has_no_float64(K, on):
    for kind, wanted in (("mps", "cpu"), ("cuda", "meta")):
        with K.device("meta"), on(kind).float64():
            assert K.ops.zeros((), "float64").device.type == wanted
