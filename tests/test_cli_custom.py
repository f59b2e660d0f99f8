"""`--custom`: classes of the user's own, from a file or a module."""

import sys
import textwrap
import zipfile

import command_line
import numpy as np
import pytest
import zoo

import bnfix
from bnfix.cli.source import Source, custom_objects

LAYERS = """
    from {keras} import layers
    from {keras}.layers import Dense

    class Doubling(layers.Layer):
        def call(self, x):
            return 2 * x

    def halving(x):
        return x / 2

    custom_objects = {{"another_name": halving}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if not getattr(sys.modules[name], "__file__", None) or str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def write(file, code, **names):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(code).format(**names), "utf-8")


def save_model(here, dialect, file):
    """A model with a layer and an activation from the file `layers.py`."""
    K = zoo.keras_module(dialect)
    write(here / "layers.py", LAYERS, keras=K.__name__)
    objects = custom_objects(_imported("layers.py"))
    doubling, halving = objects["Doubling"], objects["halving"]
    x = inputs = K.Input((4,))
    for layer in (doubling(), K.layers.BatchNormalization(), K.layers.Dense(3, halving)):
        x = layer(x)
    K.Model(inputs, x).save(file)
    np.save("x.npy", np.random.default_rng(0).normal(size=(8, 4)).astype("float32"))


def _imported(name):
    from bnfix.cli import source

    return source._imported(name)


@pytest.mark.parametrize("how", ["layers.py", "layers", "./layers.py"])
def test_a_model_of_ones_own_layers_loads_with_their_file_or_module(here, dialect, how):
    save_model(here, dialect, "model.keras")
    words = "check model.keras --data x.npy"
    without = command_line.bnfix(words)
    assert (without.status, without.out) == (3, "")
    assert "Doubling" in without.err
    done = command_line.bnfix(f"{words} --custom {how}")
    assert (done.status, done.err) == (0, "")


def test_classes_and_functions_at_the_top_are_taken_but_not_those_of_keras(here):
    write(here / "layers.py", LAYERS, keras="keras")
    objects = custom_objects(_imported("layers.py"))
    assert set(objects) == {"Doubling", "halving", "another_name"}
    assert objects["another_name"] is objects["halving"]


def test_what_a_package_imports_from_its_modules_is_taken_too(here):
    write(here / "mine" / "layers.py", LAYERS, keras="keras")
    write(here / "mine" / "__init__.py", "from mine.layers import Doubling, Dense\n")
    assert set(custom_objects(_imported("mine"))) == {"Doubling"}


def test_functions_of_pythons_own_library_are_not_handed_to_models(here):
    write(here / "layers.py", "from os import system\nfrom subprocess import Popen\n" + "x = 1\n")
    assert custom_objects(_imported("layers.py")) == {}


@pytest.mark.parametrize("name", ["types", "numpy"])
def test_a_file_takes_no_other_modules_name(here, name):
    write(here / f"{name}.py", "x = 1\n")
    before = sys.modules[name]
    with pytest.raises(bnfix.OptionError, match="rename the file"):
        _imported(f"{name}.py")
    assert sys.modules[name] is before


def test_a_new_file_names_the_module_as_the_users_own_code_does(here):
    save_model(here, "keras3", "model.keras")
    done = command_line.bnfix("fold model.keras -o new.keras --custom layers.py")
    assert done.status == 0, done.err
    with zipfile.ZipFile("new.keras") as archive:
        assert b'"module": "layers"' in archive.read("config.json")


BLOCK = """
    import keras

    class Block(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(4)
            self.bn = keras.layers.BatchNormalization()

        def build(self, shape):
            self.dense.build(shape)
            self.bn.build((None, 4))

        def call(self, x):
            return self.bn(self.dense(x))
"""


def test_code_is_opened_as_far_as_it_is_asked_for(here):
    write(here / "blocks.py", BLOCK)
    K = zoo.keras_module("keras3")
    model = K.Sequential([K.Input((3,)), _imported("blocks.py").Block(name="block")])
    zoo.randomise_batch_norms(model, 0)
    model.save("model.keras")
    for wish, left in (("never", 1), ("auto", 0)):
        done = command_line.bnfix(
            f"fold model.keras -o {wish}.keras --open {wish} --custom blocks.py"
        )
        assert done.status == 0, done.err
        objects = {} if not left else {"Block": _imported("blocks.py").Block}
        assert len(zoo.batch_norms(bnfix.load(f"{wish}.keras", custom_objects=objects))) == left


def test_a_file_sees_the_files_next_to_it(here):
    write(here / "sub" / "helper_of_layers.py", "FACTOR = 2\n")
    write(here / "sub" / "my_layers.py", "from helper_of_layers import FACTOR\n")
    assert _imported("sub/my_layers.py").FACTOR == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\nraise KeyError('gamma')\n", ["KeyError", "gamma", "broken.py, line 2"]),
        ("def f(:\n", ["SyntaxError"]),
        ("import no_such_module\n", ["no_such_module", "broken.py, line 1"]),
    ],
)
def test_a_file_that_fails_is_named_with_its_error_and_line(here, code, said):
    write(here / "broken.py", code)
    write(here / "model.keras", "not looked at yet")
    done = command_line.bnfix("fold model.keras -o new.keras --custom broken.py")
    assert (done.status, done.out) == (3, "")
    assert "Traceback" not in done.err
    assert done.err.startswith("bnfix: --custom broken.py cannot be imported")
    assert all(part in done.err for part in said), done.err


@pytest.mark.parametrize("name", ["absent.py", "absent_module", "absent.module"])
def test_what_is_not_there_is_named(here, name):
    with pytest.raises(bnfix.OptionError, match=name):
        Source(here, (name,), allow_unsafe=False).load()


def test_what_it_prints_is_no_part_of_the_report(here, dialect):
    save_model(here, dialect, "model.keras")
    with open("layers.py", "a", encoding="utf-8") as file:
        file.write("print('hello')\n")
    done = command_line.bnfix("check model.keras --data x.npy --custom layers.py --json")
    assert done.told["ok"]
    assert done.err == "hello\n"
