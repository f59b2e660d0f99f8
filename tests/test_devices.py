"""Tensors on a device of their own, such as a GPU: sums, memory, the digits of products there.

The processor stands in for the device here: what is done is the same, and its results are known.
"""

import tempfile

import numpy as np
import pytest
import zoo
from test_recalibrate import EXACT, apart, images, small_resnet, statistics_of
from test_recalibrate_limits import need_of
from test_verify import network

import bnfix
from bnfix.adapters.backends.found import AboutPivot
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.values import Values
from bnfix.breadth_first import memory, run
from bnfix.breadth_first.memory import Store
from bnfix.numerics.norm import NormSpec
from bnfix.operations import comparison
from bnfix.recalibration import measuring


@pytest.fixture
def device(K, monkeypatch):
    """Whatever runs takes tensors to live elsewhere."""
    adapter = adapter_of(small_resnet(K))
    monkeypatch.setattr(type(adapter), "accelerated", property(lambda self: True))
    return adapter


# --- sums ----------------------------------------------------------------------------------------


def far_from_0(K, masked):
    """A BN, its input as a tensor and a mask, and mean and variance of what that lets through."""
    generator = np.random.default_rng(0)
    x = (1000 + generator.normal(size=(200, 7, 3)) / 8).astype("float32")
    mask = generator.random((200, 7)) < 0.5 if masked else np.ones((200, 7), bool)
    seen = x[mask].astype("float64")
    layer = K.layers.BatchNormalization()
    layer.build(x.shape)
    adapter = adapter_of(small_resnet(K))
    tensor = adapter.fed(x)
    return layer, tensor, (mask if masked else None), seen.mean(0), seen.var(0)


def off(K, adapter, masked):
    layer, tensor, mask, mean, variance = far_from_0(K, masked)
    found = measuring.moments_of(adapter, layer, tensor, mask, path="norm")
    assert np.abs(found.variance() / variance - 1).max() <= 1e-5
    return float(np.abs((found.mean - mean) / np.sqrt(variance)).max())


@pytest.mark.parametrize("masked", [False, True])
def test_a_mean_far_from_0_keeps_its_digits(K, device, masked):
    """float32 tells 1000 to 6e-5, which is 5e-4 of a standard deviation here."""
    assert off(K, device, masked) <= 1e-6


@pytest.mark.parametrize("masked", [False, True])
def test_that_law_sees_a_mean_in_one_part(K, device, masked, monkeypatch):
    in_two = measuring.merged

    def in_one(adapter, layer, part):
        zero = part.mean - part.mean
        return in_two(adapter, layer, AboutPivot(part.count, part.pivot + part.mean, zero, part[3]))

    monkeypatch.setattr(measuring, "merged", in_one)
    assert off(K, device, masked) > 1e-6


# --- memory --------------------------------------------------------------------------------------


def store(tmp_path, *, limit, host):
    return Store(lambda tensor: tensor, np.array, limit=limit, folder=tmp_path, host=host)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32", "bool"])
def test_the_size_of_what_waits_is_known_without_a_copy(K, dtype):
    """To look at the values of a tensor on a device is to copy it."""
    if K.__name__ == "keras":
        tensor = K.ops.cast(np.ones((5, 3)), dtype)
        sizes = {"float64": 4} if zoo.BACKEND == "jax" else {}  # which JAX makes no float64 of
    else:
        tensor, sizes = zoo.tensorflow().cast(np.ones((5, 3)), dtype), {}
    wanted = sizes.get(dtype, {"float64": 8, "bfloat16": 2, "bool": 1}.get(dtype, 4))
    assert memory._bytes_of(tensor) == 15 * wanted
    assert memory._bytes_of(None) == 0


def test_what_a_device_has_no_room_for_waits_in_memory_first_and_then_on_disk(tmp_path):
    rows = np.arange(6.0).reshape(3, 2)
    waiting = store(tmp_path, limit=rows.nbytes, host=rows.nbytes + 8)
    for key in ("device", "host", "disk"):
        waiting.put(key, rows)
    assert len(list(tmp_path.iterdir())) == 1
    assert all(np.array_equal(waiting.get(key), rows) for key in ("device", "host", "disk"))
    waiting.drop("host")
    waiting.put("host again", rows)
    assert len(list(tmp_path.iterdir())) == 1
    for key in list(waiting):
        waiting.drop(key)
    assert (waiting.in_memory, waiting.host) == (0, rows.nbytes + 8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("free", "files"), [(2.0**30, False), (0.0, True), (float("inf"), True)])
def test_memory_limit_is_about_the_device(K, device, monkeypatch, tmp_path, free, files):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(run, "free_memory", lambda: free)
    written, write = [], Store._write
    monkeypatch.setattr(Store, "_write", lambda s, a: written.append(a.nbytes) or write(s, a))
    plain, spilled = small_resnet(K), small_resnet(K)
    bnfix.recalibrate(plain, images(), batch_size=7)
    limit = 30 * need_of(spilled, 70, 1).working
    bnfix.recalibrate(spilled, images(), batch_size=7, memory_limit=limit)
    assert bool(written) == files
    assert apart(spilled, statistics_of(plain)) <= EXACT["float32"]


def test_a_disk_that_is_full_is_no_matter_while_memory_is_free(tmp_path, monkeypatch):
    free = memory.shutil.disk_usage(".")._replace(free=10)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda folder: free)
    wanted = memory.Need(waiting=5000, working=100)
    memory.check_room(wanted, 1000, tmp_path, host=5000)
    with pytest.raises(bnfix.ResourceError, match="10 B free"):
        memory.check_room(wanted, 1000, tmp_path, host=4000)


def test_inputs_that_wait_there_are_counted_once(K, device, monkeypatch):
    """What is needed counts them, and so does what is left when they have come."""
    counted, left, check = [], [], run.check_room
    monkeypatch.setattr(run, "free_memory", lambda: 2.0**30)
    monkeypatch.setattr(
        run, "check_room", lambda *given, host: counted.append(host) or check(*given, host=host)
    )
    put = Store._elsewhere
    monkeypatch.setattr(Store, "_elsewhere", lambda s, a: left.append(s.host) or put(s, a))
    model = small_resnet(K)
    limit = int(21.1 * need_of(model, 70, 1).working)
    bnfix.recalibrate(model, images(), batch_size=7, memory_limit=limit)
    assert counted == [2**29] == left[:1]


# --- digits --------------------------------------------------------------------------------------


@pytest.fixture
def tensorfloat32(K, monkeypatch):
    """Products are said to have 11 bits, which forgives a difference of a thousandth."""
    backend = type(adapter_of(small_resnet(K)).backend)
    monkeypatch.setattr(backend, "product_dtype", property(lambda self: "tensorfloat32"))


def test_products_of_few_digits_withhold_nothing_that_is_right(K, tensorfloat32):
    folded, report = bnfix.fold(network(K, "float32"), return_report=True)
    assert not zoo.batch_norms(folded)
    assert any("in float64" in note for note in report.notes), report.notes


def a_little_off(monkeypatch):
    right = NormSpec.affine
    monkeypatch.setattr(NormSpec, "affine", lambda norm: tuple(1.0005 * p for p in right(norm)))


def test_nor_do_they_excuse_wrong_algebra(K, tensorfloat32, monkeypatch):
    a_little_off(monkeypatch)
    with pytest.raises(bnfix.VerificationError, match="in float64"):
        bnfix.fold(network(K, "float32"))


def test_that_law_sees_a_tolerance_that_is_taken_for_proof(K, tensorfloat32, monkeypatch):
    a_little_off(monkeypatch)
    monkeypatch.setattr(comparison, "is_coarse", lambda dtype: False)
    bnfix.fold(network(K, "float32"))


def test_a_check_tells_such_rounding_from_a_fault(K, tensorfloat32, monkeypatch):
    model, x = network(K, "float32"), np.random.default_rng(0).normal(size=(8, 6, 6, 3))
    wide = bnfix.check(model, x)
    assert wide.ok
    monkeypatch.setattr(Values, "rounding_dtype", lambda self, model: "float32")
    assert wide.tolerance > 1000 * bnfix.check(model, x).tolerance
