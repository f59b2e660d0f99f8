"""The README says what is true: its blocks run and print what stands below them."""

import ast
import contextlib
import importlib.util
import inspect
import io
import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import terminal
import zoo

import bnfix

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
#: Rounding noise differs between processors by much, a measurement by little.
NOISE = 1e-4
CLOSE = 0.5


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def examples(text: str) -> list[tuple[str, str]]:
    """Each Python block with the output promised below it, or an empty string."""
    found = [*blocks(text), ("", "")]
    return [
        (code, following if kind == "text" else "")
        for (language, code), (kind, following) in itertools.pairwise(found)
        if language == "python"
    ]


def assert_same_output(got: str, promised: str) -> None:
    """Word for word; integers equal, other numbers near, or both nothing but rounding."""
    ours, theirs = _words(got), _words(promised)
    assert len(ours) == len(theirs), f"the README is out of date; printed was:\n{got}"
    for word, wanted in zip(ours, theirs, strict=True):
        assert _agree(word, wanted), f"{word!r} instead of {wanted!r}; printed was:\n{got}"


def _words(text: str) -> list[str]:
    """Numbers apart from the signs around them."""
    return re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?|[^\s\d]+|\d+", text)


def _agree(word: str, wanted: str) -> bool:
    if word == wanted:
        return True
    try:
        got, promised = float(word.replace(",", "")), float(wanted.replace(",", ""))
    except ValueError:
        return False
    if re.fullmatch(r"[\d,]+", wanted) and wanted != "0":
        return False
    return max(got, promised) < NOISE or abs(got - promised) <= CLOSE * promised


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
    """What the README supposes: a model file, calibration data, and both at hand by name."""
    import numpy as np
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("readme")
    images, digits = load_digits(return_X_y=True)
    x = (images[:1400] / 16).reshape(-1, 8, 8, 1).astype("float32")
    model = made_by_someone()
    model.fit(x, digits[:1400], epochs=2, verbose=0)
    model.save(folder / "model.h5")
    np.save(folder / "x_calibration.npy", x)
    return folder, {"model": model, "x": x, "x_calibration": x}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_every_python_block_runs_and_prints_what_stands_below_it(prepared, monkeypatch):
    folder, names = prepared
    monkeypatch.chdir(folder)
    assert sum(bool(promised) for _, promised in examples(README)) >= 3
    for code, promised in examples(README):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), names)
        if promised:
            assert_same_output(printed.getvalue(), promised)
    assert (folder / "repaired.keras").is_file()


def sessions() -> list[list[tuple[str, str]]]:
    """The commands of each console block, and the output below each."""
    found = [code for language, code in blocks(README) if language == "console"]
    return [re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE) for code in found]


def test_every_command_in_a_console_block_shows_on_a_terminal_what_stands_below_it(
    prepared, tmp_path
):
    for name in ("model.h5", "x_calibration.npy"):
        shutil.copyfile(prepared[0] / name, tmp_path / name)
    assert sum(len(session) for session in sessions()) >= 3
    for command, promised in itertools.chain(*sessions()):
        assert_same_output(terminal.shown(command, tmp_path), promised)
    assert (tmp_path / "repaired.h5").is_file()


def test_a_terminal_shows_the_last_state_of_a_line_and_no_colours(tmp_path):
    command = r"printf 'working\rdone   \n\033[31mred\033[0m\nbar\r\033[2K'; echo end >&2"
    assert terminal.shown(command, tmp_path) == "done\nred\nend\n"


def test_the_table_of_exit_statuses_is_that_of_the_help():
    from bnfix.cli.commands import group

    table = README.partition("| exit status |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| (\d+) \|", table, re.MULTILINE)
    assert told == re.findall(r"^  (\d+) ", group.epilog, re.MULTILINE)


def test_the_example_on_your_own_model_is_a_dozen_lines():
    section = README.partition("## On your own model")[2].partition("\n## ")[0]
    lines = [line for code, _ in examples(section) for line in code.splitlines() if line.strip()]
    assert len(lines) <= 15


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


def set_up_commands() -> list[str]:
    shell = [code for language, code in blocks(README) if language == "sh"]
    return re.findall(r"^python3 -m venv.*$", "".join(shell), re.MULTILINE)


def test_each_set_up_is_one_line_from_nothing_to_the_result():
    shown, tested = set_up_commands()
    assert shown.endswith(".venv/bin/bnfix demo")
    assert tested.endswith(".venv/bin/pytest")


def test_the_readme_and_the_continuous_integration_run_the_same_tests():
    """`.ci/run` reads the command from the README by a pattern that must find it, and only it."""
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    taken = re.search(r"grep .*'(.+)' README\.md", script)
    assert taken, ".ci/run no longer reads its test command from the README"
    matching = [line for line in README.splitlines() if re.search(taken.group(1), line)]
    assert matching == [set_up_commands()[1]]


def test_the_table_names_every_public_function_and_the_errors_every_class():
    functions = {name for name in bnfix.__all__ if inspect.isfunction(getattr(bnfix, name))}
    table = README.partition("## What there is")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)\(", table, re.MULTILINE)) == functions
    errors = {name for name in bnfix.__all__ if name.endswith("Error")} - {"BnfixError"}
    table = README.partition("## What the errors mean")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` ", table, re.MULTILINE)) == errors


def test_every_dependency_is_listed_with_its_reason():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = ("tensorflow", "plot", "demo", "images")
    wanted = [*project["dependencies"], *(one for name in named for one in extras[name])]
    names = {re.match(r"[\w-]+", requirement).group() for requirement in wanted} - {"bnfix"}
    table = README.partition("## What it depends on")[2].partition("\n## ")[0]
    told = ", ".join(re.findall(r"^\| ([\w, -]+?) \|", table, re.MULTILINE)).split(", ")
    assert set(told) - {"package"} == names


def is_module(name):
    return importlib.util.find_spec(f"bnfix.{name}") is not None


def test_every_attribute_of_bnfix_that_the_readme_uses_exists():
    used = set(re.findall(r"\bbnfix\.([A-Za-z_]\w*)", README)) - {"png"}
    assert {name for name in used if not (hasattr(bnfix, name) or is_module(name))} == set()
    for code, _ in examples(README):
        ast.parse(code)
