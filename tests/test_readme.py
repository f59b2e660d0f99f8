"""The README is short and leads on; tables of the documentation name all that there is."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, blocks, examples

import bnfix

README = PAGES["README.md"]
REFERENCE = "docs/reference.md"


def test_the_readme_is_for_someone_who_has_thirty_seconds():
    code = "".join(block.code for block in examples(README))
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    assert len(README.splitlines()) <= 120


def test_every_page_is_reached_from_the_readme_or_the_first_page_and_is_there():
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([\w./]+?)(?:#[\w.-]+)?\)", text):
            assert (ROOT / page).parent.joinpath(link).is_file(), f"{page}: {link}"
    linked = set(re.findall(r"\]\((\w+\.md)\)", PAGES["docs/index.md"]))
    assert linked | {"index.md"} == {Path(page).name for page in PAGES} - {"README.md"}


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


def table(page, heading):
    return PAGES[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_table_names_every_public_function_and_the_errors_every_class():
    functions = {name for name in bnfix.__all__ if inspect.isfunction(getattr(bnfix, name))}
    told = re.findall(
        r"^\| \[`(\w+)\(.*\)`\]\(#bnfix\.(\w+)\)", table(REFERENCE, "Which function"), re.M
    )
    assert {name for name, _ in told} == functions
    assert all(name == anchor for name, anchor in told)
    errors = {name for name in bnfix.__all__ if name.endswith("Error")} - {"BnfixError"}
    listed = re.findall(r"^\| `(\w+)` ", table(REFERENCE, "Errors and warnings"), re.M)
    assert set(listed) == errors


def test_every_dependency_is_listed_with_its_reason():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = ("tensorflow", "jax", "torch", "plot", "demo", "images")
    wanted = [*project["dependencies"], *(one for name in named for one in extras[name])]
    names = {re.match(r"[\w-]+", requirement).group() for requirement in wanted} - {"bnfix"}
    listed = table("docs/versions.md", "What it depends on")
    told = ", ".join(re.findall(r"^\| ([\w, -]+?) \|", listed, re.MULTILINE)).split(", ")
    assert set(told) - {"package"} == names


def is_module(name):
    return importlib.util.find_spec(f"bnfix.{name}") is not None


def test_every_attribute_of_bnfix_that_a_page_uses_exists():
    for page, text in PAGES.items():
        used = set(re.findall(r"(?<![\w/.-])bnfix\.([A-Za-z_]\w*)", text)) - {"png"}
        unknown = {name for name in used if not (hasattr(bnfix, name) or is_module(name))}
        assert unknown == set(), page


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def gone(text):
    """What `text` calls a file, or a name that one defines, and is neither."""
    code = {path: path.read_text("utf-8") for path in ROOT.glob("bnfix/**/*.py")}
    homes = [ROOT, *(ROOT / home for home in ("bnfix", "tests", "docs", "benchmarks"))]
    bare = {path.name for path in code}
    named = re.findall(r"`([\w/]+\.(?:py|md|toml|txt))`", text)
    files = [name for name in named if not any((home / name).is_file() for home in homes)]
    constants = re.findall(r"`(_?[A-Z]+_[A-Z_]+|RULES)` of", text)
    spelled = "\n".join(code.values())
    unknown = [name for name in constants if not re.search(rf"^{name}\b", spelled, re.M)]
    return [name for name in files if name not in bare] + unknown


def test_what_contributors_are_sent_to_is_there():
    assert not gone(CONTRIBUTING)
    assert gone("`NO_SUCH_NAME` of `numerics/nowhere.py`") == [
        "numerics/nowhere.py",
        "NO_SUCH_NAME",
    ]
