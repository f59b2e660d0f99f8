"""The pages of the documentation tell all that there is: causes in order, every public name."""

import html
import re
from pathlib import Path

import commands_page
import pytest
import session_picture

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


#: Found by both, under one name and in one section, so that a link to it leads to all of it.
BOTH = [cause for cause in map(str, Diagnosed) if cause in set(map(str, Found))]


def test_each_cause_has_one_section_in_order():
    found = sections(PAGE)
    assert found["Of both"] == BOTH != []
    assert found["Of `diagnose`"] == [str(cause) for cause in Diagnosed if str(cause) not in BOTH]
    checked = {str(cause) for cause in Found} - set(BOTH)
    assert sorted(found["Of `check`"]) == sorted(checked)


def test_the_law_rejects_a_page_without_one_of_them():
    without = PAGE.replace("### `shifted`\n", "")
    assert "shifted" in sections(PAGE)["Of `diagnose`"]
    assert "shifted" not in sections(without)["Of `diagnose`"]


def test_every_section_says_something_and_names_a_source_or_leads_to_one():
    texts = re.split(r"^##+ .*$", PAGE, flags=re.M)[1:]
    assert all(text.strip() for text in texts)
    causes = re.split(r"^### `\w+`$", PAGE, flags=re.M)[1:]
    assert all(re.search(r"\]\((https://|\w+\.md|#)", cause) for cause in causes)


def test_every_link_within_a_page_leads_to_one_place():
    for path in DOCS.glob("*.md"):
        page = path.read_text("utf-8")
        anchors = [
            re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-")
            for head in re.findall(r"^##+ (.+)$", page, flags=re.M)
        ]
        assert len(anchors) == len(set(anchors)), path.name
        assert set(re.findall(r"\]\(#([\w-]+)\)", page)) <= set(anchors), path.name


def test_the_reference_has_every_public_name():
    page = PAGE_OF_NAMES.read_text("utf-8")
    listed = re.findall(r"^::: bnfix\.(\w+)$", page, flags=re.M)
    assert sorted([*listed, "callbacks"]) == sorted(bnfix.__all__)
    callbacks = re.findall(r"^::: bnfix\.callbacks\.(\w+)$", page, flags=re.M)
    assert callbacks == ["RecalibrateBN", "FreezeBN"]
    assert all(hasattr(bnfix.callbacks, name) for name in callbacks)


@pytest.mark.parametrize("name", ["RecalibrateBN", "FreezeBN"])
def test_a_callback_shows_nothing_but_what_keras_calls(name):
    hooks = {name for name in vars(bnfix.callbacks._Callback) if not name.startswith("_")}
    shown = {name for name in vars(getattr(bnfix.callbacks, name)) if not name.startswith("_")}
    assert shown <= hooks


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


def words(svg):
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    return html.unescape(" ".join(texts)).replace("\xa0", " ").split()


def test_the_picture_of_a_session_shows_what_the_page_says():
    there = words((DOCS / "session.svg").read_text("utf-8"))
    again = "python tests/session_picture.py > docs/session.svg"
    assert sorted(there) == sorted(words(session_picture.picture())), again
    assert sorted(there) != sorted(words(session_picture.picture().replace("baked", "made")))


# --- figures -------------------------------------------------------------------------------------

RESULTS = (DOCS.parent / "benchmarks" / "RESULTS.md").read_text("utf-8")

#: Page, how the first line of a table begins, the benchmark that it is from, how many cells of a
#: row are labels, and how the rows of the benchmark with these labels begin.
FIGURES = [
    ("folding.md", "| network | batch | before", "inference", 2, "| {0} | {1} |"),
    ("recalibration.md", "| | inference |", "recalibrate_cost", 1, "| Keras 3 | {0} | 512 of 224"),
]


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table(page, head):
    """The cells of the rows of the table that begins so."""
    rows = page[page.index(head) :].partition("\n\n")[0].splitlines()
    return [cells_of(row) for row in rows[2:]]


def numbers(cells):
    return {float(found) for cell in cells for found in re.findall(r"[\d.]+(?:e-?\d+)?", cell)}


def unfounded(page, head, name, labels, begins):
    """What stands in a table of a page, and not in the rows of the results that it names."""
    section = RESULTS.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    found = []
    for cells in table(page, head):
        start = begins.format(*cells[:labels])
        rows = [cells_of(line) for line in section.splitlines() if line.startswith(start)]
        known = set().union(*map(numbers, rows))
        found += [(cells[0], one) for one in numbers(cells[labels:]) - known]
    return found


@pytest.mark.parametrize(("name", "head", "benchmark", "labels", "begins"), FIGURES)
def test_figures_of_the_pages_are_those_of_the_results(name, head, benchmark, labels, begins):
    assert not unfounded((DOCS / name).read_text("utf-8"), head, benchmark, labels, begins)


def test_the_law_sees_a_figure_that_was_never_measured():
    name, *where = FIGURES[0]
    page = (DOCS / name).read_text("utf-8")
    cells = table(page, where[0])[0]
    forged = page.replace(f"| {cells[2]} |", "| 1.5 ms |", 1)
    assert unfounded(forged, *where) == [(cells[0], 1.5)]
