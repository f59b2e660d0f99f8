"""The `bnfix` command: what it prints, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bnfix
from bnfix import cli


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds this bnfix from any folder."""
    environment = {**os.environ, "PYTHONPATH": str(Path(bnfix.__file__).parents[1])}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_the_module_runs_as_the_command_and_tells_its_version():
    done = python("-m", "bnfix", "--version")
    assert (done.returncode, done.stdout) == (0, f"bnfix {bnfix.__version__}\n")


def test_without_a_command_the_help_lists_all_of_them(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert "usage: bnfix" in shown
    assert "demo" in shown


def test_an_unknown_command_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["unfold"])
    assert stopped.value.code == 2
    assert "demo" in capsys.readouterr().err


def test_an_unknown_keras_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--keras", "jax"])
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert "keras" in shown
    assert "tf_keras" in shown


def test_help_and_version_load_no_tensorflow():
    code = (
        "import sys\nfrom bnfix.cli import main\nmain([])\n"
        "sys.exit(bool({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)))"
    )
    assert python("-c", code).returncode == 0


def test_a_refusal_is_one_line_on_stderr_and_exit_status_2(monkeypatch, capsys):
    import bnfix.demo

    def refuse(**options: object) -> None:
        raise bnfix.DataError("x is empty. Nothing was changed.")

    monkeypatch.setattr(bnfix.demo, "run", refuse)
    assert cli.main(["demo"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "bnfix: x is empty. Nothing was changed.\n"
    assert shown.out == ""


def test_other_errors_are_not_hidden(monkeypatch):
    import bnfix.demo

    def fail(**options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bnfix.demo, "run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo"])


@pytest.mark.parametrize("absent", ["sklearn", "matplotlib"])
def test_without_its_extra_the_demo_says_what_to_install(tmp_path, absent):
    """A package that cannot be imported stands in front of the real one."""
    (tmp_path / absent).mkdir()
    (tmp_path / absent / "__init__.py").write_text("raise ImportError('absent')\n", "utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom bnfix.cli import main\n"
    code += "sys.exit(main(['demo', '--epochs', '1']))"
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert 'pip install "bnfix[demo]"' in done.stderr
    assert "Traceback" not in done.stderr
    # Found out before training, not after it.
    assert "recalibrate" not in done.stdout


def test_tensorflow_is_told_to_be_quiet_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    cli.main([])
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    cli.main([])
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
