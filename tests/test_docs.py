"""The pages of the documentation tell all that there is: causes in order, every public name."""

import re
from pathlib import Path

import bnfix
from bnfix.checks.cause import Cause as Found
from bnfix.diagnosis.cause import Cause as Diagnosed

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
