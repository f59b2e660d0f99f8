"""The README says what is true; that its blocks run is the matter of `test_pages`."""

import importlib.util
import inspect
import re

import pytest
from pages import PAGES, ROOT, blocks, examples

import bnfix

README = PAGES["README.md"]


def test_the_table_of_exit_statuses_is_that_of_the_help():
    from bnfix.cli.commands import group

    table = README.partition("| exit status |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| (\d+) \|", table, re.MULTILINE)
    assert told == re.findall(r"^  (\d+) ", group.epilog, re.MULTILINE)


def test_the_example_on_your_own_model_is_a_dozen_lines():
    section = README.partition("## On your own model")[2].partition("\n## ")[0]
    code = "".join(block.code for block in examples(section))
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 15


def set_up_commands() -> list[str]:
    shell = [block.code for block in blocks(README) if block.language == "sh"]
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
