"""Which Kerases may be there: old ones, none, and the one that `tf.keras` stands for."""

import ast
import contextlib
import re
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import hostile
import pytest
import smoke
import zoo

import bnfix
from bnfix import demo
from bnfix.adapters import choose, kerases
from bnfix.adapters.choose import adapter_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def installed(monkeypatch):
    """A function that says which packages, of which versions, are to seem installed."""

    def install(**versions):
        monkeypatch.setattr(kerases, "is_installed", versions.__contains__)
        monkeypatch.setattr(kerases, "version", lambda root: versions.get(root, ""))

    return install


# --- what is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "line"),
    [
        ({"keras": "3.8.0", "tensorflow": "2.18.1"}, 'pip install -U "tf-keras~=2.18.0"'),
        ({"keras": "3.8.0"}, "pip install -U tf-keras"),
        ({"keras": "3.8.0", "tf_keras": "2.12.0"}, "pip install -U tf-keras"),
    ],
)
def test_a_file_of_keras_2_without_keras_2_tells_what_to_install(installed, tmp_path, there, line):
    hostile.plain_h5(tmp_path / "old.h5")
    installed(**there)
    with pytest.raises(bnfix.FileError, match=re.escape(line)) as caught:
        bnfix.load(tmp_path / "old.h5")
    assert "old.h5 (written by Keras 2.15.0) needs Keras 2" in str(caught.value)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"tf_keras": "2.21.0", "tensorflow": "2.21.0"}, 'pip install -U "keras>=3.5"'),
        ({"keras": "2.15.0", "tensorflow": "2.15.1"}, '"keras>=3.5" "tensorflow>=2.16"'),
        ({"keras": "3.4.1", "tensorflow": "2.17.0"}, "keras 3.4.1 is installed, and bnfix needs"),
    ],
)
def test_a_file_of_keras_3_without_keras_3_tells_what_to_install(installed, tmp_path, there, said):
    hostile.plain_keras(tmp_path / "new.keras")
    installed(**there)
    with pytest.raises(bnfix.FileError, match=re.escape(said)):
        bnfix.load(tmp_path / "new.keras")


def test_a_file_that_neither_keras_opens_tells_that_one_of_them_is_not_usable(
    tmp_path, monkeypatch
):
    zoo.keras_module("tf_keras")
    config = hostile.config(hostile.layer("NoSuchLayer", "odd", "bn"), last="odd")
    hostile.plain_h5(tmp_path / "odd.h5", config)
    monkeypatch.setattr(
        kerases, "problem_with", lambda root: "its backend is missing" if root == "keras" else None
    )
    with pytest.raises(bnfix.FileError, match=r"uses NoSuchLayer.*its backend is missing"):
        bnfix.load(tmp_path / "odd.h5")


def test_a_file_is_looked_into_without_any_keras(installed, tmp_path):
    hostile.plain_h5(tmp_path / "old.h5")
    installed()
    assert len(bnfix.inspect(tmp_path / "old.h5").batch_norms) == 1


def test_a_saved_model_without_keras_2_tells_what_to_install(installed, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    installed(keras="3.8.0")
    for read in (bnfix.inspect, bnfix.load):
        with pytest.raises(bnfix.FileError, match="pip install -U tf-keras"):
            read(tmp_path)


def test_a_model_of_a_keras_that_is_too_old_is_refused_in_one_sentence(installed, monkeypatch):
    installed(keras="3.4.1")
    choose._adapter.cache_clear()
    model = zoo.keras_module("keras3").Sequential()
    try:
        with pytest.raises(bnfix.UnsupportedModelError, match=r"3\.4\.1 is installed.*pip install"):
            adapter_of(model)
    finally:
        choose._adapter.cache_clear()


def test_a_keras_whose_backend_is_missing_tells_so(installed, monkeypatch):
    installed(keras="3.8.0")

    def no_backend(name):
        raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(kerases.importlib, "import_module", no_backend)
    assert "KERAS_BACKEND" in str(kerases.lack(3))


def test_the_demo_without_its_keras_tells_what_to_install(installed):
    installed(keras="3.8.0")
    with pytest.raises(bnfix.BnfixError, match="pip install -U tf-keras"):
        demo.run(keras="tf_keras")


@pytest.mark.parametrize(
    ("python", "there", "refused"),
    [((3, 12), "2.18.0", True), ((3, 12), "2.19.0", False), ((3, 11), "2.16.0", False)],
)
def test_a_keras_that_cannot_be_seeded_is_told(installed, monkeypatch, python, there, refused):
    monkeypatch.setattr(kerases.sys, "version_info", python)
    installed(tf_keras=there)
    assert bool(kerases.problem_with_seeds("tf_keras")) is refused


# --- which one it is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "two", "three"),
    [
        ({"keras": "3.15.1", "tf_keras": "2.21.0"}, "tf_keras", "keras"),
        ({"keras": "2.15.0"}, "keras", None),
        ({"keras": "2.15.0", "tf_keras": "2.15.1"}, "keras", None),
        ({"keras": "3.16.0.dev2026010100"}, None, "keras"),
        ({}, None, None),
    ],
)
def test_the_package_keras_is_keras_2_up_to_tensorflow_2_15(installed, there, two, three):
    installed(**there)
    assert (kerases.root_of(2), kerases.root_of(3)) == (two, three)


def test_a_nightly_build_under_another_name_is_asked_itself(monkeypatch):
    module = types.ModuleType("keras")
    module.__version__ = "3.16.0.dev2026010100"
    monkeypatch.setitem(sys.modules, "keras", module)
    assert kerases.version("keras") == "3.16.0.dev2026010100"
    assert kerases.generation("keras") == 3


def test_with_tf_use_legacy_keras_tf_keras_is_keras_2(tmp_path):
    zoo.keras_module("tf_keras")
    code = """
import os
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import numpy as np
import tensorflow as tf
import bnfix
from bnfix.adapters.choose import adapter_of

L = tf.keras.layers
inputs = tf.keras.Input((4,))
outputs = L.Dense(2)(L.BatchNormalization(name="bn")(L.Dense(3)(inputs), training=True))
model = tf.keras.Model(inputs, outputs)
x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
assert bnfix.check(model, x).culprit == "bn"
assert bnfix.check(bnfix.repair(model, x), x).ok
bnfix.save(model, "model.h5")
assert isinstance(bnfix.load("model.h5"), tf.keras.Model)
print(adapter_of(model).name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "tf_keras", done.stderr


# --- what is promised -----------------------------------------------------------------------------


def test_the_smoke_run_makes_every_public_call():
    called = {
        node.attr
        for node in ast.walk(ast.parse(Path(smoke.__file__).read_text("utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "bnfix"
    }
    functions = {name for name in bnfix.__all__ if callable(getattr(bnfix, name))}
    public = {name for name in functions if not isinstance(getattr(bnfix, name), type)}
    assert public <= called


def test_lower_bounds_are_the_versions_that_the_suite_runs_on():
    text = (ROOT / ".ci" / "sets" / "oldest.txt").read_text("utf-8")
    oldest = dict(re.findall(r"^([\w-]+)==([\d.]+)$", text, re.MULTILINE))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    bounds = dict(re.findall(r'^  "([\w-]+)>=([\d.]+)"', project, re.MULTILINE))
    bounds["keras"] = ".".join(map(str, kerases.FLOORS[3]))  # pyproject.toml lets Keras 2 in, too
    asked = {name: bounds[name] for name in oldest}
    assert {name: oldest[name][: len(bound)] for name, bound in asked.items()} == asked
    assert f'"!=3.{kerases.FLOORS[3][1]}' not in project
    assert f"!=3.{kerases.FLOORS[3][1] - 1}.*" in project


def test_the_package_tells_its_version_in_one_place():
    with contextlib.suppress(metadata.PackageNotFoundError):  # it may run from its checkout
        assert metadata.version("bnfix") == bnfix.__version__
    found = [
        path
        for path in [ROOT / "pyproject.toml", *(ROOT / "bnfix").rglob("*.py")]
        if re.search(rf'["\']{re.escape(bnfix.__version__)}["\']', path.read_text("utf-8"))
    ]
    assert found == [ROOT / "bnfix" / "__init__.py"]


def test_a_backend_that_bnfix_does_not_know_is_refused_in_one_sentence():
    from bnfix.adapters.backends import backend_of

    with pytest.raises(bnfix.UnsupportedModelError, match="Keras runs on openvino here"):
        backend_of("openvino")


def test_the_page_names_the_python_and_the_versions_of_each_set():
    page = (ROOT / "docs" / "versions.md").read_text("utf-8").partition("## What is tried")[2]
    rows = dict(re.findall(r"^\| `([\w-]+)`(?: \(.*?\))? \| (.*)$", page, re.M))
    sets = {path.stem: path.read_text("utf-8") for path in (ROOT / ".ci" / "sets").glob("*.txt")}
    assert set(rows) == set(sets) - {"torch"}
    for name, row in rows.items():
        (python,) = re.findall(r"^# Python (.*)$", sets[name], re.M)
        assert row.startswith(f"{python} |"), name
        pinned = re.findall(r"^(?:keras|tf-keras|tensorflow|numpy)==(.+)$", sets[name], re.M)
        assert all(f"{version} |" in row for version in pinned), name
