"""What the documentation shows is so: every block of every page runs, and prints what it promises.

A page that uses `keras` without importing it runs in both Kerases, and so does one that imports
Keras 3 where it says nothing of that alone.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import terminal
import workers
import zoo
from pages import PAGES, assert_same_output, blocks, examples, sessions, supposed

#: What pages may suppose: a model whose author wrote `training=True` once, what it was trained on,
#: and both in files.
AT_HAND = {"model", "x", "y", "x_calibration"}


def made_by_someone() -> Any:
    """A tf_keras network of two BNs, the second called with `training=True`; not yet trained."""
    K = zoo.keras_module("tf_keras")
    K.utils.set_random_seed(0)
    L = K.layers
    inputs = K.Input((8, 8, 1))
    x = L.Conv2D(16, 3, name="conv1")(inputs)
    x = L.ReLU()(L.BatchNormalization(name="bn1")(x))
    x = L.Conv2D(32, 3, name="conv2")(x)
    x = L.ReLU()(L.BatchNormalization(name="bn2")(x, training=True))
    x = L.GlobalAveragePooling2D()(x)
    outputs = L.Dense(10, activation="softmax", name="probabilities")(x)
    model = K.Model(inputs, outputs, name="digits")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the files that pages suppose, and the names of what is in them."""
    import numpy as np
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("pages")
    images, digits = load_digits(return_X_y=True)
    x, y = (images[:1400] / 16).reshape(-1, 8, 8, 1).astype("float32"), digits[:1400]
    model = made_by_someone()
    model.fit(x, y, epochs=2, verbose=0)
    model.save(folder / "model.h5")
    np.save(folder / "x_calibration.npy", x)
    return folder, {"x": x, "y": y, "x_calibration": x}


@pytest.fixture
def at_hand(prepared, tmp_path, monkeypatch):
    """Names for one page, which is read in a folder of its own."""
    folder, names = prepared
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    model = zoo.keras_module("tf_keras").models.load_model("model.h5")
    return {**names, "model": model}


#: Two that train a dozen networks, or one for long, and one whose lines are in the README as well.
LONG = {"docs/recipes.md", "docs/group_norm.md", "docs/index.md"}


#: It uses `keras.ops`, which Keras 2 has not.
KERAS_3_ALONE = {"docs/composite.md"}


def readings():
    for page, text in PAGES.items():
        long = [pytest.mark.long] if page in LONG else []
        if "keras" in supposed(text):
            for which in zoo.DIALECTS:
                yield pytest.param(page, which, id=f"{page}-{which}", marks=long)
        elif examples(text):
            yield pytest.param(page, None, id=page, marks=long)
            if (
                any(_KERAS_3 in block.code for block in examples(text))
                and page not in KERAS_3_ALONE
            ):
                yield pytest.param(page, "tf_keras", id=f"{page}-tf_keras", marks=pytest.mark.long)


_KERAS_3 = "import keras\n"


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize(("page", "dialect"), [*readings()])
def test_every_block_runs_and_prints_what_stands_below_it(page, dialect, at_hand):
    names, code = at_hand, list(examples(PAGES[page], dialect))
    if dialect and "keras" in supposed(PAGES[page]):
        names = {"keras": zoo.keras_module(dialect)}
    elif dialect:
        code = [
            replace(b, code=b.code.replace(_KERAS_3, f"import {dialect} as keras\n")) for b in code
        ]
    try:
        for block in code:
            assert_shows(block, names, f"{page}: {block.section}")
    finally:
        if dialect:
            zoo.keras_module(dialect).mixed_precision.set_global_policy("float32")


def assert_shows(block, names, where):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.code, where, "exec"), names)
    if block.promised:
        assert_same_output(printed.getvalue(), block.promised)
    elif "print(" not in block.code:
        assert printed.getvalue() == "", f"{where}: nothing is said unasked"


@pytest.mark.parametrize(
    "page",
    [
        # A third of a minute, since each command that opens a model starts TensorFlow.
        pytest.param(page, marks=[pytest.mark.long] if page == "docs/first_steps.md" else [])
        for page in PAGES
        if sessions(PAGES[page])
    ],
)
def test_every_command_shows_on_a_terminal_what_stands_below_it(page, prepared, tmp_path):
    for name in ("model.h5", "x_calibration.npy"):
        shutil.copyfile(prepared[0] / name, tmp_path / name)
    for command, promised in sessions(PAGES[page]):
        assert_same_output(terminal.shown(command, tmp_path), promised)


def test_a_page_supposes_nothing_that_is_not_at_hand():
    unknown = {page: supposed(text) - AT_HAND - {"keras"} for page, text in PAGES.items()}
    assert {page for page, names in unknown.items() if names} == set()
    assert supposed("```python\nmodel.fit(x)\nz = x\nprint(z, w)\n```\n") == {"model", "x", "w"}


def test_nothing_is_python_that_does_not_run():
    """A fence that is written another way would be passed over."""
    for page, text in PAGES.items():
        fences = len(re.findall(r"^ *(?:```|~~~) *(?:python|py|pycon)\b", text, re.MULTILINE))
        read = [block for block in blocks(text) if block.language == "python"]
        assert len(read) == fences, page
        assert all(block.mark == "Keras 3" or block.is_a_file for block in read if block.mark), page


def test_a_block_that_fails_or_prints_something_else_is_seen():
    right, wrong, loud = blocks(
        "```python\nprint(2)\n```\n```text\n2\n```\n```python\nprint(3)\n```\n```text\n2\n```\n"
        "```python\nspeak()\n```\n"
    )[::2]
    assert_shows(right, {}, "right")
    with pytest.raises(AssertionError):
        assert_shows(wrong, {}, "wrong")
    with pytest.raises(NameError):
        assert_shows(loud, {}, "loud")
    with pytest.raises(AssertionError):
        assert_shows(loud, {"speak": lambda: print("!")}, "loud")  # noqa: T201


def test_an_output_that_differs_in_a_word_or_a_count_is_seen():
    promised = "fold: 2 of 3 layers changed, row 0 moves by 0.21"
    assert_same_output("fold: 2 of 3 layers changed, row 0 moves by 0.23", promised)
    for wrong in (
        "fold: 1 of 3 layers changed, row 0 moves by 0.21",
        "fold: 2 of 3 layers declined, row 0 moves by 0.21",
        "fold: 2 of 3 layers changed, row 0 moves by 1.5",
        "fold: 2 of 3 layers changed",
    ):
        with pytest.raises(AssertionError):
            assert_same_output(wrong, promised)


def test_rounding_noise_may_differ_and_zero_too():
    assert_same_output("differ by 3.1e-07", "differ by 0")
    with pytest.raises(AssertionError):
        assert_same_output("differ by 0.031", "differ by 0")


def test_a_terminal_shows_the_last_state_of_a_line_and_no_colours(tmp_path):
    command = r"printf 'working\rdone   \n\033[31mred\033[0m\nbar\r\033[2K'; echo end >&2"
    assert terminal.shown(command, tmp_path) == "done\nred\nend\n"


def test_recipes_cover_the_ways_of_training():
    page = PAGES["docs/recipes.md"]
    titles = [block.section for block in examples(page)]
    assert len(titles) == len(set(titles)) == 13
    assert len(examples(page, "tf_keras")) == len(examples(page, "keras3")) - 1


@pytest.mark.long
def test_the_script_of_the_page_runs_in_two_workers(tmp_path):
    found = blocks(PAGES["docs/distribution.md"])
    (script,) = (block.code for block in found if block.is_a_file)
    (tmp_path / "train.py").write_text(script)
    (command,) = (block.code for block in found if block.language == "sh")
    for documented, free in zip(("2222", "2223"), workers.free_ports(2), strict=True):
        command = command.replace(documented, free)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    one, other = ran.stdout.splitlines()
    assert one == other, "both workers have the same statistics, to the last bit"
    assert one.startswith(("True ", "False "))
