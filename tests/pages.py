"""The pages of the documentation as data: their blocks, what these print, what a page supposes."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
#: Rounding noise differs between processors by much, a measurement by little.
NOISE = 1e-4
CLOSE = 0.5

_BLOCK = re.compile(
    r"^(?P<heading>\#\#\ [^\n]+)$"
    r"|(?:^<!--\ (?P<mark>[^\n]+)\ -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        section: The heading of the second level that it stands under.
        mark: The comment above it: `Keras 3` for what runs there alone, or the name of a file that
            holds it, and how that is run.
        language: Of the fence.
        code: What stands in it.
        promised: Of Python, what it prints: the `text` block that comes next, or nothing.
    """

    section: str
    mark: str
    language: str
    code: str
    promised: str

    @property
    def is_a_file(self) -> bool:
        return ".py" in self.mark


def blocks(text: str) -> list[Block]:
    """Those of a page, in order."""
    section, found = "", []
    for match in _BLOCK.finditer(text):
        if match["heading"]:
            section = match["heading"].removeprefix("## ")
        else:
            found.append((section, match["mark"] or "", match["language"], match["code"]))
    following = [code if language == "text" else "" for _, _, language, code in found[1:]]
    return [
        Block(*parts, promised if parts[2] == "python" else "")
        for parts, promised in zip(found, [*following, ""], strict=False)
    ]


def examples(text: str, dialect: str | None = None) -> list[Block]:
    """The Python blocks of a page that run one after the other, in the Keras `dialect`."""
    return [
        block
        for block in blocks(text)
        if block.language == "python"
        and not block.is_a_file
        and (block.mark != "Keras 3" or dialect != "tf_keras")
    ]


def supposed(text: str) -> set[str]:
    """Names that the blocks of a page use and do not make."""
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for block in examples(text):
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.Name):
                names[isinstance(node.ctx, ast.Load)].add(node.id)
            elif isinstance(node, ast.alias):
                names[False].add((node.asname or node.name).partition(".")[0])
            elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
                names[False].add(node.name or "")
            elif isinstance(node, ast.arg):
                names[False].add(node.arg)
    return names[True] - names[False] - set(dir(builtins))


def sessions(text: str) -> list[tuple[str, str]]:
    """The commands of the console blocks of a page, each with what stands below it."""
    return [
        found
        for block in blocks(text)
        if block.language == "console"
        for found in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.code, re.MULTILINE)
    ]


def assert_same_output(got: str, promised: str) -> None:
    """Word for word; integers equal, other numbers near, or both nothing but rounding."""
    ours, theirs = _words(got), _words(promised)
    assert len(ours) == len(theirs), f"the page is out of date; printed was:\n{got}"
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
