"""The pages of the documentation tell all that there is: causes in order, every public name."""

import re
from pathlib import Path

import commands_page

import bnfix
from bnfix.checks.cause import Cause as Found
from bnfix.diagnosis.cause import Cause as Diagnosed
from bnfix.files import norms

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "causes.md").read_text("utf-8")
PAGE_OF_NAMES = DOCS / "reference.md"


def sections(page):
    """Headings of the second level, each with those of the third level below it."""
    _, *parts = re.split(r"^## ", page, flags=re.M)
    return {
        part.partition("\n")[0]: re.findall(r"^### `(\w+)`$", part, flags=re.M) for part in parts
    }


def test_each_cause_has_its_section_in_order():
    found = sections(PAGE)
    assert found["Of `diagnose`"] == [str(cause) for cause in Diagnosed]
    assert sorted(found["Of `check`"]) == sorted(str(cause) for cause in Found)


def test_the_law_rejects_a_page_without_one_of_them():
    without = PAGE.replace("### `shifted`\n", "")
    assert sections(without)["Of `diagnose`"] != [str(cause) for cause in Diagnosed]


def test_every_section_says_something_and_every_link_leads_to_one():
    texts = re.split(r"^##+ .*$", PAGE, flags=re.M)[1:]
    assert all(text.strip() for text in texts)
    links = re.findall(r"\]\(#(\w+)\)", PAGE)
    assert links
    assert set(links) <= {name for names in sections(PAGE).values() for name in names}


def test_the_reference_has_every_public_name():
    page = PAGE_OF_NAMES.read_text("utf-8")
    listed = re.findall(r"^::: bnfix\.(\w+)$", page, flags=re.M)
    assert sorted([*listed, "callbacks"]) == sorted(bnfix.__all__)
    callbacks = re.findall(r"^::: bnfix\.callbacks\.(\w+)$", page, flags=re.M)
    assert callbacks == ["RecalibrateBN", "FreezeBN"]
    assert all(hasattr(bnfix.callbacks, name) for name in callbacks)


def kinds_of_defects():
    """Those that the rules of files name."""
    return set(re.findall(r'Defect\(\s*"(\w+)"', Path(norms.__file__).read_text("utf-8")))


def test_each_defect_of_a_file_is_explained():
    table = PAGE.partition("## Of `inspect`")[2]
    told = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert len(told) == len(set(told))
    assert set(told) == kinds_of_defects() != set()


def as_words(text):
    """Versions of Click break lines at other places."""
    return text.split()


def test_the_page_on_commands_is_their_help():
    page = (DOCS / "commands.md").read_text("utf-8")
    again = "python tests/commands_page.py > docs/commands.md"
    assert as_words(page) == as_words(commands_page.page()), again
    assert as_words(page.replace("--data PATH", "", 1)) != as_words(commands_page.page())
