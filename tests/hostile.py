"""Model files that are damaged or made to do harm; each builder writes one and says how.

The plain ones, `plain_h5` and `plain_keras`, load in both of their Kerases: what is wrong with the
others is what their names say. Code that a file brings along, or gets called, leaves a canary: the
file whose path is in the environment as `BNFIX_CANARY`.
"""

from __future__ import annotations

import codecs
import io
import json
import marshal
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Builder = Callable[[Path], None]
#: Name of the file and its builder.
CORPUS: dict[str, Builder] = {}
#: Those that `inspect` and an edit may take, because what is wrong with them is never touched.
INSPECTABLE: set[str] = set()
CHANNELS = 4


def hostile(suffix: str, *, inspectable: bool = False) -> Callable[[Builder], Builder]:
    """List a builder under its name and `suffix`."""

    def add(builder: Builder) -> Builder:
        name = builder.__name__ + suffix
        CORPUS[name] = builder
        if inspectable:
            INSPECTABLE.add(name)
        return builder

    return add


# --- plain files ---------------------------------------------------------------------------------


def layer(kind: str, name: str, inputs: str | None, **config: Any) -> dict[str, Any]:
    """A layer as Keras 2 writes it into an .h5 file."""
    nodes = [[[inputs, 0, 0, {}]]] if inputs else []
    found = {"class_name": kind, "config": {"name": name, **config}, "name": name}
    return {**found, "inbound_nodes": nodes}


def config(*extra: dict[str, Any], last: str = "bn") -> dict[str, Any]:
    """input -> bn -> extra layers, for Keras 2."""
    layers = [
        layer("InputLayer", "in", None, batch_input_shape=[None, CHANNELS], dtype="float32"),
        layer("BatchNormalization", "bn", "in", axis=[1], epsilon=1e-3, momentum=0.9),
        *extra,
    ]
    ends = {"input_layers": [["in", 0, 0]], "output_layers": [[last, 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "m", "layers": layers, **ends}}


def with_layer(kind: str, **options: Any) -> dict[str, Any]:
    return config(layer(kind, "evil", "bn", **options), last="evil")


def plain_h5(path: Path, text: Any = None, training: Any = None, **options: Any) -> None:
    """An .h5 file of tf_keras: `text` or its dump is the configuration."""
    text = config() if text is None else text
    with h5py.File(path, "w", **options) as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(text) if isinstance(text, dict) else text
        if training is not None:
            file.attrs["training_config"] = json.dumps(training)
        weights = file.create_group("model_weights")
        names = ["in", "bn"]
        if isinstance(text, dict):
            names = [entry["config"]["name"] for entry in text["config"]["layers"]]
        weights.attrs["layer_names"] = [name.encode() for name in names]
        weights.attrs["keras_version"] = "2.15.0"
        for name in names:
            weights.create_group(name).attrs["weight_names"] = np.array([], "S1")
        roles = ("gamma", "beta", "moving_mean", "moving_variance")
        weights["bn"].attrs["weight_names"] = [f"bn/{role}:0".encode() for role in roles]
        for number, role in enumerate(roles):
            weights[f"bn/bn/{role}:0"] = np.full(CHANNELS, 0.5 + number, "float32")


def keras3_config(*extra: dict[str, Any]) -> dict[str, Any]:
    """A Sequential of Keras 3: input, bn, extra layers."""
    layers = [
        entry("keras.layers", "InputLayer", name="in", batch_shape=[None, CHANNELS]),
        entry("keras.layers", "BatchNormalization", name="bn"),
        *extra,
    ]
    return entry("keras", "Sequential", name="m", layers=layers)


def entry(module: str | None, kind: str, /, **options: Any) -> dict[str, Any]:
    """An object as the third format writes it."""
    return {"module": module, "class_name": kind, "config": options, "registered_name": None}


def weights_h5(path: Path | io.BytesIO) -> None:
    with h5py.File(path, "w") as file:
        held = file.create_group("layers/batch_normalization/vars")
        for number in range(4):
            held[str(number)] = np.full(CHANNELS, 0.5 + number, "float32")


def plain_keras(
    path: Path,
    text: Any = None,
    *,
    version: str = "3.9.0",
    weights: bytes | None = None,
    extra: dict[str, bytes] | None = None,
    packed: int = zipfile.ZIP_STORED,
) -> None:
    """A .keras file; `extra` members come last."""
    if weights is None:
        weights_h5(held := io.BytesIO())
        weights = held.getvalue()
    text = keras3_config() if text is None else text
    shown = json.dumps(text) if isinstance(text, dict) else text
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", shown)
        archive.writestr("model.weights.h5", weights)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)


# --- HDF5: leading out of the file ---------------------------------------------------------------


def _edited(path: Path, place: str, act: Callable[[h5py.File], None]) -> None:
    plain_h5(path)
    with h5py.File(path, "a") as file:
        del file[place]
        act(file)


VARIANCE = "model_weights/bn/bn/moving_variance:0"


@hostile(".h5")
def external_link(path: Path) -> None:
    """Its variance is in another file."""
    other = path.with_name("elsewhere.bin")
    with h5py.File(other, "w") as file:
        file["x"] = np.ones(CHANNELS, "float32")
    _edited(path, VARIANCE, lambda f: f.__setitem__(VARIANCE, h5py.ExternalLink(other.name, "/x")))


@hostile(".h5")
def soft_link(path: Path) -> None:
    """Its variance is somewhere else in the file."""
    _edited(path, VARIANCE, lambda f: f.__setitem__(VARIANCE, h5py.SoftLink("/model_weights/bn")))


@hostile(".h5")
def soft_link_to_itself(path: Path) -> None:
    """A link in a circle."""
    link = h5py.SoftLink("/model_weights/bn")
    _edited(path, "model_weights/bn", lambda f: f.__setitem__("model_weights/bn", link))


@hostile(".h5", inspectable=True)
def external_link_aside(path: Path) -> None:
    """A link out of the file that nobody has to follow."""
    plain_h5(path)
    with h5py.File(path, "a") as file:
        file["optimizer_weights"] = h5py.ExternalLink("/etc/passwd", "/")


@hostile(".h5")
def external_storage(path: Path) -> None:
    """Its variance is the bytes of a file of this machine."""
    place = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    _edited(
        path,
        VARIANCE,
        lambda f: f.create_dataset(VARIANCE, (CHANNELS,), "float32", external=place),
    )


@hostile(".h5")
def virtual_dataset(path: Path) -> None:
    """Its variance is gathered from another file."""
    layout = h5py.VirtualLayout((CHANNELS,), "float32")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (CHANNELS,))
    _edited(path, VARIANCE, lambda f: f.create_virtual_dataset(VARIANCE, layout))


@hostile(".h5")
def group_in_itself(path: Path) -> None:
    """Hard links that make a group its own grandchild."""
    plain_h5(path)
    with h5py.File(path, "a") as file:
        file["model_weights/bn/bn/again"] = file["model_weights"]


INSPECTABLE.add("group_in_itself.h5")


# --- HDF5: more than it has ----------------------------------------------------------------------


@hostile(".h5")
def absurd_shape(path: Path) -> None:
    """4 TiB of which nothing is stored."""
    _edited(path, VARIANCE, lambda f: f.create_dataset(VARIANCE, (1 << 40,), "float32"))


@hostile(".h5")
def absurd_shape_in_pieces(path: Path) -> None:
    """1 TiB in pieces of which none is stored."""
    _edited(
        path,
        VARIANCE,
        lambda f: f.create_dataset(VARIANCE, (1 << 38,), "float32", chunks=(1 << 16,)),
    )


@hostile(".h5", inspectable=True)
def absurd_shape_aside(path: Path) -> None:
    """The same where only loading would read it."""
    plain_h5(path)
    with h5py.File(path, "a") as file:
        file.create_dataset("optimizer_weights/x", (1 << 40,), "float32")


@hostile(".h5")
def packed_zeros(path: Path) -> None:
    """256 MiB of zeros, packed into less than one."""
    _edited(
        path,
        VARIANCE,
        lambda f: f.create_dataset(
            VARIANCE, data=np.zeros(1 << 26, "float32"), compression="gzip", chunks=(1 << 22,)
        ),
    )


@hostile(".h5")
def small_values_in_a_huge_piece(path: Path) -> None:
    """Four values, for which a piece of 256 MiB has to be unpacked."""
    _edited(
        path,
        VARIANCE,
        lambda f: f.create_dataset(
            VARIANCE,
            data=np.zeros(CHANNELS, "float32"),
            maxshape=(None,),
            chunks=(1 << 26,),
            compression="gzip",
        ),
    )


@hostile(".h5", inspectable=True)
def one_dataset_under_many_names(path: Path) -> None:
    """A megabyte that counts as a gigabyte."""
    plain_h5(path)
    with h5py.File(path, "a") as file:
        file["x"] = np.zeros(1 << 18, "float32")
        for number in range(1000):
            file[f"optimizer_weights/{number}"] = file["x"]


@hostile(".h5", inspectable=True)
def many_attributes(path: Path) -> None:
    """More attributes than any layer has."""
    plain_h5(path, libver="latest")
    with h5py.File(path, "a", libver="latest") as file:
        for number in range(10_001):
            file["model_weights"].attrs[f"x{number}"] = 0


@hostile(".h5")
def giant_attribute(path: Path) -> None:
    """A configuration of 80 MB."""
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = np.bytes_(b" " * (80 << 20))


@hostile(".h5")
def names_that_are_all_one_text(path: Path) -> None:
    """A thousand names of a megabyte each, stored once."""
    long, count = "x" * (1 << 20), 1000
    plain_h5(path)
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs["layer_names"] = [long, *["a"] * count]
    content = path.read_bytes()
    begin = content.index(struct.pack("<I", len(long)))
    while content[begin + 16 : begin + 20] != struct.pack("<I", 1):
        begin = content.index(struct.pack("<I", len(long)), begin + 1)
    reference = content[begin : begin + 16]
    end = begin + 16 * (count + 1)
    path.write_bytes(content[:begin] + reference * (count + 1) + content[end:])


@hostile(".h5", inspectable=True)
def deep_groups(path: Path) -> None:
    """Groups in groups, deeper than a stack."""
    plain_h5(path)
    with h5py.File(path, "a") as file:
        group = file
        for _ in range(2000):
            group = group.create_group("g")


# --- HDF5: not what it says ----------------------------------------------------------------------


@hostile(".h5")
def empty(path: Path) -> None:
    """Nothing."""
    path.write_bytes(b"")


@hostile(".h5")
def text(path: Path) -> None:
    """An error page of a server, saved under the name of a model."""
    path.write_text("<!DOCTYPE html><title>404</title>" * 100)


@hostile(".h5")
def signature_alone(path: Path) -> None:
    """The first eight bytes."""
    path.write_bytes(b"\x89HDF\r\n\x1a\n")


@hostile(".h5")
def noise_behind_the_signature(path: Path) -> None:
    """The first eight bytes, and then anything."""
    noise = np.random.default_rng(0).bytes(10_000)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + noise)


@hostile(".h5")
def half(path: Path) -> None:
    """A download that broke off."""
    plain_h5(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@hostile(".h5")
def zeros_in_the_middle(path: Path) -> None:
    """A hole of zeros."""
    plain_h5(path)
    content = bytearray(path.read_bytes())
    content[200 : len(content) // 2] = bytes(len(content) // 2 - 200)
    path.write_bytes(bytes(content))


@hostile(".h5")
def not_utf8(path: Path) -> None:
    """A configuration that is no text."""
    plain_h5(path, np.bytes_(b'{"class_name": "\xff\xfe"}'))


@hostile(".h5")
def configuration_of_numbers(path: Path) -> None:
    """Numbers where text belongs."""
    plain_h5(path, np.arange(3))


@hostile(".h5")
def names_of_numbers(path: Path) -> None:
    """Numbers where names belong."""
    plain_h5(path)
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs["layer_names"] = np.arange(3)


@hostile(".h5")
def weights_of_text(path: Path) -> None:
    """Text where numbers belong."""
    _edited(path, VARIANCE, lambda f: f.__setitem__(VARIANCE, np.array([b"a"] * CHANNELS)))


@hostile(".h5")
def weights_of_references(path: Path) -> None:
    """References where numbers belong."""
    _edited(
        path,
        VARIANCE,
        lambda f: f.create_dataset(VARIANCE, data=[f.ref] * CHANNELS, dtype=h5py.ref_dtype),
    )


@hostile(".h5")
def weights_that_are_a_type(path: Path) -> None:
    """A data type where numbers belong."""
    _edited(path, VARIANCE, lambda f: f.__setitem__(VARIANCE, np.dtype("float32")))


@hostile(".h5")
def weights_far_down(path: Path) -> None:
    """A name that is a path of a hundred thousand steps."""
    plain_h5(path)
    with h5py.File(path, "a") as file:
        far = "/".join(["a"] * 20_000) + "/moving_variance:0"
        file["model_weights/bn"].attrs["weight_names"] = [far.encode()]


# --- configurations: text ------------------------------------------------------------------------


@hostile(".h5")
def deep_json(path: Path) -> None:
    """Lists in lists, deeper than a stack."""
    plain_h5(path, '{"class_name": ' + "[" * 100_000 + "]" * 100_000 + "}")


@hostile(".h5")
def rather_deep_json(path: Path) -> None:
    """Just deep enough for the reader, and too deep for whoever walks it."""
    plain_h5(path, '{"class_name": ' + "[" * 900 + "]" * 900 + "}")


@hostile(".h5")
def key_twice(path: Path) -> None:
    """Two answers to one question."""
    plain_h5(path, '{"class_name": "Functional", "config": {}, "class_name": "Lambda"}')


@hostile(".h5")
def five_million_lists(path: Path) -> None:
    """Fifteen megabytes that take a gigabyte."""
    plain_h5(path, np.bytes_(b'{"a": [' + b"[]," * 5_000_000 + b"0]}"), libver="latest")


@hostile(".h5")
def a_list(path: Path) -> None:
    """JSON, but no object."""
    plain_h5(path, "[1, 2, 3]")


@hostile(".h5")
def endless_number(path: Path) -> None:
    """A number of a hundred thousand digits."""
    plain_h5(path, '{"a": ' + "9" * 100_000 + "}")


# --- configurations: code ------------------------------------------------------------------------

#: Python that leaves the canary.
CANARY = "open(__import__('os').environ['BNFIX_CANARY'], 'a').write('x')"


def bytecode() -> str:
    """A marshalled function that leaves the canary, as Keras writes lambdas."""
    names: dict[str, Any] = {}
    exec(f"def f(x):\n    {CANARY}\n    return x", names)
    # Later versions of the format note down who else holds an object, which is never the same.
    return codecs.encode(marshal.dumps(names["f"].__code__, 2), "base64").decode("ascii")


def _lambda(**options: Any) -> dict[str, Any]:
    function = {"function": [bytecode(), None, None], "function_type": "lambda"}
    shape = {"output_shape": None, "output_shape_type": "raw", "output_shape_module": None}
    return with_layer("Lambda", **function, module="builtins", **shape, arguments={}, **options)


@hostile(".h5", inspectable=True)
def marshalled_lambda(path: Path) -> None:
    """tf_keras runs it with safe mode on."""
    plain_h5(path, _lambda())


@hostile("", inspectable=True)
def marshalled_lambda_without_suffix(path: Path) -> None:
    """The same under another name."""
    plain_h5(path, _lambda())


@hostile(".h5", inspectable=True)
def lambda_in_the_inside(path: Path) -> None:
    """The same in a nested model."""
    inner = {**_lambda(), "name": "inner", "inbound_nodes": [[["bn", 0, 0, {}]]]}
    inner["config"]["name"] = "inner"
    plain_h5(path, config(inner, last="inner"))


@hostile(".h5", inspectable=True)
def lambda_shape(path: Path) -> None:
    """The function is harmless, its output shape is not."""
    options = {"function": "relu", "function_type": "function", "module": "builtins"}
    shape = {"output_shape": [bytecode(), None, None], "output_shape_type": "lambda"}
    plain_h5(path, with_layer("Lambda", **options, **shape, arguments={}))


@hostile(".h5", inspectable=True)
def writes_a_file(path: Path) -> None:
    """A TensorFlow function by name."""
    plain_h5(path, with_layer("TFOpLambda", function="io.write_file"))


@hostile(".h5", inspectable=True)
def removes_a_folder(path: Path) -> None:
    """Another."""
    plain_h5(path, with_layer("TFOpLambda", function="io.gfile.rmtree"))


@hostile(".h5", inspectable=True)
def calls_python(path: Path) -> None:
    """The one that calls Python."""
    plain_h5(path, with_layer("TFOpLambda", function="compat.v1.py_func"))


@hostile(".h5", inspectable=True)
def slices_by_python(path: Path) -> None:
    """The same under a sister's name."""
    plain_h5(path, with_layer("SlicingOpLambda", function="numpy_function"))


@hostile(".h5", inspectable=True)
def operation_that_writes(path: Path) -> None:
    """A TensorFlow operation."""
    node = {"name": "x", "op": "WriteFile", "input": ["a", "b"]}
    plain_h5(path, with_layer("TensorFlowOpLayer", node_def=node, constants={}))


@hostile(".h5", inspectable=True)
def operation_in_bytes(path: Path) -> None:
    """The same as bytes that nobody can read before TensorFlow does."""
    plain_h5(path, with_layer("TensorFlowOpLayer", node_def="\n\x01x\x12\tWriteFile"))


@hostile(".h5", inspectable=True)
def method_of_a_tensor(path: Path) -> None:
    """What a method of an object leads to is anyone's guess."""
    plain_h5(path, with_layer("InstanceMethod", attr_name="__reduce__"))


@hostile(".h5", inspectable=True)
def vocabulary_of_this_machine(path: Path) -> None:
    """A file that ends up in the model."""
    plain_h5(path, with_layer("StringLookup", vocabulary="/etc/passwd"))


@hostile(".h5", inspectable=True)
def imports_a_module(path: Path) -> None:
    """tf_keras imports what a configuration names."""
    plain_h5(path, with_layer("Dense", units=1, activation=_evil("function")))


def _evil(kind: str) -> dict[str, Any]:
    name = {"config": "act"} if kind == "function" else {"config": {"name": "evil"}}
    return {"module": "canary_module", "class_name": kind, "registered_name": kind, **name}


@hostile(".keras", inspectable=True)
def imports_a_module_for_a_class(path: Path) -> None:
    """The same in the third format."""
    plain_keras(path, keras3_config(_evil("Evil")), version="2.15.0")


@hostile(".keras", inspectable=True)
def calls_a_builtin(path: Path) -> None:
    """`eval`, as an activation."""
    evaluate = {"module": "builtins", "class_name": "function", "config": "eval"}
    dense = entry("keras.layers", "Dense", name="evil", units=1, activation=evaluate)
    plain_keras(path, keras3_config(dense), version="2.15.0")


@hostile(".keras", inspectable=True)
def calls_the_system(path: Path) -> None:
    """`os.system`, likewise."""
    system = {"module": "os", "class_name": "function", "config": "system"}
    dense = entry("keras.layers", "Dense", name="evil", units=1, activation=system)
    plain_keras(path, keras3_config(dense), version="2.15.0")


def _marshalled() -> dict[str, Any]:
    return {"class_name": "__lambda__", "config": {"value": [bytecode(), None, None]}}


@hostile(".keras", inspectable=True)
def lambda_of_keras_3(path: Path) -> None:
    """A lambda in the third format."""
    lambda_ = entry("keras.layers", "Lambda", name="evil", function=_marshalled())
    plain_keras(path, keras3_config(lambda_))


@hostile(".keras", inspectable=True)
def lambda_of_tf_keras(path: Path) -> None:
    """The same for the other Keras."""
    lambda_ = entry("keras.layers", "Lambda", name="evil", function=_marshalled())
    plain_keras(path, keras3_config(lambda_), version="2.15.0")


@hostile(".keras", inspectable=True)
def lambda_by_another_name(path: Path) -> None:
    """The name of the class is not where it is looked for."""
    evil = entry("keras", "layers.Lambda", name="evil", function=_marshalled())
    plain_keras(path, keras3_config(evil), version="2.15.0")


@hostile(".keras", inspectable=True)
def function_of_keras_as_a_class(path: Path) -> None:
    """`get_file` fetches what it is told to."""
    evil = {"module": "keras.utils", "class_name": "function", "config": "get_file"}
    dense = entry("keras.layers", "Dense", name="evil", units=1, activation=evil)
    plain_keras(path, keras3_config(dense), version="2.15.0")


@hostile(".keras", inspectable=True)
def saved_model_as_a_layer(path: Path) -> None:
    """A program from elsewhere."""
    plain_keras(path, keras3_config(entry("keras.layers", "TFSMLayer", filepath="/tmp/x")))


@hostile(".keras", inspectable=True)
def pickled_module(path: Path) -> None:
    """A pickle is a program."""
    evil = entry("keras.layers", "TorchModuleWrapper", module={"class_name": "x"})
    plain_keras(path, keras3_config(evil))


@hostile(".keras", inspectable=True)
def lambda_inside_of_a_loss(path: Path) -> None:
    """A nested model brings a compiled loss along."""
    inner = keras3_config()
    inner["config"]["name"] = "inner"
    inner["compile_config"] = {"loss": _marshalled(), "optimizer": "adam"}
    plain_keras(path, keras3_config(inner))


# --- archives ------------------------------------------------------------------------------------


@hostile(".keras")
def out_of_the_archive(path: Path) -> None:
    """A member that would be extracted elsewhere."""
    plain_keras(path, extra={"assets/../../canary": b"x"})


@hostile(".keras")
def absolute_member(path: Path) -> None:
    """Another."""
    plain_keras(path, extra={"/tmp/canary": b"x"})


@hostile(".keras")
def backslash_member(path: Path) -> None:
    """Another, on some machines."""
    plain_keras(path, extra={"assets\\..\\..\\canary": b"x"})


@hostile(".keras")
def link_in_the_archive(path: Path) -> None:
    """A member that is a link."""
    plain_keras(path)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("assets")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")


@hostile(".keras")
def packed_weights(path: Path) -> None:
    """300 MB, packed into 300 kB."""
    plain_keras(path, weights=bytes(300 << 20), packed=zipfile.ZIP_DEFLATED)


@hostile(".keras")
def packed_configuration(path: Path) -> None:
    """A configuration that unpacks to 100 MB of blanks."""
    plain_keras(path, "{" + " " * (100 << 20) + "}", packed=zipfile.ZIP_DEFLATED)


@hostile(".keras")
def asset_that_unpacks(path: Path) -> None:
    """The same aside."""
    plain_keras(path, extra={"assets/x": bytes(200 << 20)}, packed=zipfile.ZIP_DEFLATED)


@hostile(".keras")
def member_twice(path: Path) -> None:
    """Two configurations."""
    plain_keras(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", json.dumps(keras3_config()))


@hostile(".keras")
def many_members(path: Path) -> None:
    """Twenty thousand empty members."""
    plain_keras(path, extra={f"assets/{number}": b"" for number in range(20_000)})


@hostile(".keras")
def encrypted_member(path: Path) -> None:
    """Marked as encrypted."""
    plain_keras(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))


@hostile(".keras")
def packed_unusually(path: Path) -> None:
    """Packed by a method that Keras never uses."""
    plain_keras(path, packed=zipfile.ZIP_LZMA)


@hostile(".keras")
def member_larger_than_it_says(path: Path) -> None:
    """The directory tells 10 bytes of the configuration, and there are more."""
    plain_keras(path, packed=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    at = content.index(b"config.json", content.index(b"PK\x01\x02")) - 46
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    path.write_bytes(bytes(content))


@hostile(".keras")
def directory_of_gigabytes(path: Path) -> None:
    """The end of the archive tells of a directory of two gigabytes."""
    plain_keras(path)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x05\x06")
    content[at + 12 : at + 16] = struct.pack("<I", 2_000_000_000)
    path.write_bytes(bytes(content))


@hostile(".keras")
def half_an_archive(path: Path) -> None:
    """A download that broke off."""
    plain_keras(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@hostile(".keras")
def no_configuration(path: Path) -> None:
    """A zip archive of anything."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


@hostile(".keras")
def configuration_not_utf8(path: Path) -> None:
    """A configuration that is no text."""
    plain_keras(path, b'{"a": "\xff"}')


@hostile(".keras")
def weights_that_lead_out(path: Path) -> None:
    """An external link in the weights."""
    with h5py.File(held := io.BytesIO(), "w") as file:
        file["layers/batch_normalization/vars"] = h5py.ExternalLink("/etc/passwd", "/")
    plain_keras(path, weights=held.getvalue())


@hostile(".keras", inspectable=True)
def pickled_weights(path: Path) -> None:
    """Weights as an archive of arrays, which may be pickled objects."""
    np.savez(held := io.BytesIO(), x=np.array([{}], dtype=object))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0"}))
        archive.writestr("config.json", json.dumps(keras3_config()))
        archive.writestr("model.weights.npz", held.getvalue())


# --- what is no file -----------------------------------------------------------------------------


@hostile(".h5")
def a_pipe(path: Path) -> None:
    """Whoever opens it waits for ever."""
    os.mkfifo(path)


@hostile(".h5")
def a_folder(path: Path) -> None:
    """A folder."""
    path.mkdir()


@hostile(".h5")
def link_to_itself(path: Path) -> None:
    """A link in a circle."""
    path.symlink_to(path.name)


@hostile(".h5")
def endless_device(path: Path) -> None:
    """A file without an end."""
    path.symlink_to("/dev/zero")


@hostile("")
def saved_model_of_noise(path: Path) -> None:
    """The folder of a SavedModel, with noise in it."""
    path.mkdir()
    (path / "saved_model.pb").write_bytes(np.random.default_rng(1).bytes(1000))
