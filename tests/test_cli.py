"""The `bnfix` command: how it begins, what it refuses, and how it ends."""

import json
import math
import os
import re
import subprocess
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path

import click
import numpy as np
import pytest
import zoo

import bnfix
from bnfix import cli
from bnfix.cli import commands, options, output, quiet
from bnfix.cli.commands import group

COMMANDS = list(group.commands)


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds this bnfix from any folder."""
    environment = {**os.environ, "PYTHONPATH": str(Path(bnfix.__file__).parents[1])}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120
    )


# --- what is shown without a model ----------------------------------------------------------------


def test_the_module_runs_as_the_command_and_tells_its_version():
    done = python("-m", "bnfix", "--version")
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (0, "")
    assert told["bnfix"] == bnfix.__version__
    assert told["keras"] == f"{metadata.version('keras')} on {zoo.BACKEND}"


def test_without_a_command_the_help_lists_all_of_them(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert "Usage: bnfix" in shown
    assert [line.split()[0] for line in listed(shown)] == COMMANDS
    assert all("..." not in line for line in listed(shown)), "a summary is cut off"


def listed(shown: str) -> list[str]:
    return shown.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_its_options_and_ends_with_examples(name, capsys):
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"\n  Examples:\n    bnfix {name}\b", shown)
    given = [p for p in group.commands[name].params if isinstance(p, click.Option)]
    assert [option.name for option in given if not option.help] == []
    assert max(map(len, shown.splitlines())) <= 80


def test_help_loads_no_tensorflow():
    code = (
        "import sys\nfrom bnfix.cli import main\nfrom bnfix.cli.commands import group\n"
        "main([])\n"
        "[main([name, '--help']) for name in group.commands]\n"
        "sys.exit(bool({'tensorflow', 'keras', 'tf_keras', 'h5py'} & set(sys.modules)))"
    )
    assert python("-c", code).returncode == 0


# --- what is no usage -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["unfold"], "unfold"),
        (["check"], "FILE"),
        (["check", "absent.h5", "--data", "absent.npy"], "absent"),
        (["check", __file__], "--data"),
        (["check", __file__, "--data", __file__, "--limit", "0"], "--limit"),
        (["check", __file__, "--data", __file__, "--scale", "1/0"], "1/255"),
        (["check", __file__, "--data", __file__, "--image-size", "big"], "224x224"),
        (["check", __file__, "--data", __file__, "--labels", "int"], "folders of images"),
        (["check", __file__, "--data", __file__, "--scale", "2", "--preprocess", "x"], "either"),
        (["fold", __file__], "--out"),
        (["fold", __file__, "-o", "absent/out.h5"], "absent is no folder"),
        (["to-group-norm", __file__, "-o", "out.h5", "--groups", "many"], "auto"),
        (["demo", "--keras", "jax"], "tf_keras"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong(argv, said, capsys):
    assert cli.main(argv) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""
    assert "Traceback" not in shown.err


# --- how it ends ----------------------------------------------------------------------------------


@pytest.fixture
def demo_that(monkeypatch):
    """A function that replaces what the demo does by one that raises."""
    import bnfix.demo

    def raising(error: BaseException) -> None:
        def run(**options: object) -> None:
            raise error

        monkeypatch.setattr(bnfix.demo, "run", run)

    return raising


def test_a_refusal_is_one_line_on_stderr_and_exit_status_3(demo_that, capsys):
    demo_that(bnfix.DataError("x is empty."))
    assert cli.main(["demo"]) == 3
    assert capsys.readouterr() == ("", "bnfix: x is empty. Nothing was changed.\n")


def test_advice_that_names_an_argument_is_followed_by_the_option_that_stands_for_it(
    demo_that, capsys
):
    error = bnfix.FileError("It is not known.", advises=("custom_objects", "allow_unsafe"))
    demo_that(error)
    assert cli.main(["demo"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" is ")[2] for line in lines[1:]] == [
        "--custom FILE.py",
        "--allow-unsafe",
    ]


def test_every_option_that_is_advised_exists():
    known = {name for command in group.commands.values() for p in command.params for name in p.opts}
    assert {option.split()[0] for _, option in commands._OPTIONS.values()} <= known


def test_an_interruption_ends_with_130_and_no_traceback(demo_that, capsys):
    demo_that(KeyboardInterrupt())
    assert cli.main(["demo"]) == 130
    shown = capsys.readouterr()
    assert (shown.out, shown.err.strip()) == ("", "")


def test_an_interruption_that_python_would_drop_ends_the_command_all_the_same(monkeypatch, capsys):
    import bnfix.demo

    class Dropped:
        def __del__(self):
            raise KeyboardInterrupt

    def run(**_):
        Dropped()
        time.sleep(0.1)

    monkeypatch.setattr(bnfix.demo, "run", run)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.parametrize("error", [ZeroDivisionError, EOFError, MemoryError])
def test_an_error_that_was_not_foreseen_keeps_its_traceback_and_is_not_taken_for_a_verdict(
    demo_that, capsys, error
):
    demo_that(error("what happened"))
    assert cli.main(["demo"]) == 4
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert f"{error.__name__}: what happened" in shown


def test_a_name_that_tells_no_format_is_refused_before_any_work(capsys):
    for name in ("out", "out.txt", "out.weights.h5"):
        assert cli.main(["fold", __file__, "-o", name]) == 3
        assert f"{name} names no format" in capsys.readouterr().err


@pytest.mark.parametrize("absent", ["sklearn", "matplotlib"])
def test_without_its_extra_the_demo_says_what_to_install(tmp_path, absent):
    """A package that cannot be imported stands in front of the real one."""
    (tmp_path / absent).mkdir()
    (tmp_path / absent / "__init__.py").write_text("raise ImportError('absent')\n", "utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom bnfix.cli import main\n"
    code += "sys.exit(main(['demo', '--epochs', '1']))"
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert 'pip install "bnfix[demo]"' in done.stderr
    assert "Traceback" not in done.stderr
    # Found out before training, not after it.
    assert "recalibrate" not in done.stdout


# --- noise ----------------------------------------------------------------------------------------


QUIETLY = """
from bnfix.cli.quiet import quiet_tensorflow
with quiet_tensorflow():
    import tensorflow
print(tensorflow.answer)
"""
LOUD = 'import os\nos.write(2, b"oneDNN is on")\nanswer = 42\n'


@pytest.mark.parametrize(("level", "heard"), [(None, ""), ("3", ""), ("0", "oneDNN is on")])
def test_whoever_has_set_the_log_level_of_tensorflow_hears_it(monkeypatch, tmp_path, level, heard):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if level:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    (tmp_path / "tensorflow.py").write_text(LOUD)
    done = python("-c", QUIETLY, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("42\n", heard)


def test_warnings_of_bnfix_are_lines_told_once_and_those_of_others_are_not_shown(
    monkeypatch, capsys
):
    import logging

    import bnfix.demo

    def run(**options: object) -> None:
        warnings.warn("old format", UserWarning, stacklevel=1)
        logging.getLogger("absl").warning("metrics have yet to be built")
        for _ in range(2):
            warnings.warn("labels are unused", bnfix.BnfixWarning, stacklevel=1)

    monkeypatch.setattr(bnfix.demo, "run", run)
    monkeypatch.setattr(bnfix.demo, "show", lambda result, out: None)
    assert cli.main(["demo"]) == 0
    assert capsys.readouterr() == ("", "bnfix: warning: labels are unused\n")
    with pytest.warns(UserWarning, match="again"):  # as before, once the command has ended
        warnings.warn("again", UserWarning, stacklevel=1)
    assert logging.getLogger("absl").isEnabledFor(logging.WARNING)


# --- reports --------------------------------------------------------------------------------------


class Told(bnfix.Report):
    """A report with numbers that JSON has no word for."""

    def to_dict(self):
        return {"largest": math.inf, "rows": [math.nan, 1.5], "of": {"least": -math.inf}}


def test_what_is_not_finite_is_null_since_json_has_no_word_for_it(capsys):
    assert output.show(Told("fold"), output.Telling(True, None)) == 0
    shown = capsys.readouterr().out
    told = json.loads(shown, parse_constant=pytest.fail)
    assert told == {"ok": True, "largest": None, "rows": [None, 1.5], "of": {"least": None}}


def test_what_is_printed_meanwhile_goes_to_stderr(capsys):
    with quiet.working():
        sys.stdout.write("Saved artifact\n")
    click.echo("the report")
    assert capsys.readouterr() == ("the report\n", "Saved artifact\n")


class Terminal:
    """A stdout that says it is one."""

    def __init__(self):
        self.written = []

    def write(self, text):
        self.written.append(text)

    def flush(self): ...

    def isatty(self):
        return True


def on_a_terminal(text: str, monkeypatch) -> str:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    output.show(text, output.Telling(False, None))
    return "".join(terminal.written)


def test_colours_on_a_terminal_change_no_character_of_the_report(monkeypatch):
    text = (
        "check: NOT ok, batch_statistics in bn2\n    fix: model = bnfix.freeze(model)\n  note: [1]"
    )
    shown = on_a_terminal(text, monkeypatch)
    assert "\x1b[" in shown
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == text + "\n"


def test_in_a_pipe_there_are_no_colours(capsys):
    output.show("check: NOT ok", output.Telling(False, None))
    assert capsys.readouterr().out == "check: NOT ok\n"


@pytest.mark.parametrize(
    ("text", "value"), [("1/255", 1 / 255), ("0.5", 0.5), ("-1", -1.0), ("2/127.5", 2 / 127.5)]
)
def test_a_scale_is_a_number_or_a_fraction(text, value):
    from bnfix.cli.data import factor

    assert np.isclose(factor(text), value, rtol=1e-15)


@pytest.mark.parametrize("text", ["", "1/", "/2", "1/0", "one", "1/2/3"])
def test_what_is_no_scale_is_refused(text):
    from bnfix.cli.data import factor

    with pytest.raises(click.BadParameter, match="1/255"):
        factor(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1000", 1000), ("1e9", 10**9), ("500MB", 5 * 10**8), ("1.5GiB", 3 << 29), ("2 kB", 2000)],
)
def test_a_size_is_a_number_of_bytes(text, value):
    assert options.bytes_of(text) == value


@pytest.mark.parametrize("text", ["", "GiB", "0", "-1", "2 apples", "1e999", "1.2.3", "e"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(click.BadParameter, match="1 GiB"):
        options.bytes_of(text)
