"""Small changes to a file that a test should notice, made by operators of cosmic-ray."""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

#: What each operator is replaced by: its neighbour, which is the mistake that is made.
_BINARY = {
    "Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "Pow": "Mul", "FloorDiv": "Mul",
    "Mod": "FloorDiv", "BitAnd": "BitOr", "BitOr": "BitAnd", "LShift": "RShift",
}  # fmt: skip
_COMPARISON = {
    "Lt": "LtE", "LtE": "Lt", "Gt": "GtE", "GtE": "Gt", "Eq": "NotEq", "NotEq": "Eq",
    "Is": "IsNot", "IsNot": "Is",
}  # fmt: skip
_OPERATORS = (
    *(f"core/ReplaceBinaryOperator_{old}_{new}" for old, new in _BINARY.items()),
    *(f"core/ReplaceComparisonOperator_{old}_{new}" for old, new in _COMPARISON.items()),
    "core/ReplaceUnaryOperator_Delete_Not",
    "core/ReplaceUnaryOperator_Delete_Invert",
    "core/ReplaceUnaryOperator_USub_UAdd",
    "core/AddNot",
    "core/NumberReplacer",
    "core/RemoveDecorator",
    "core/ReplaceAndWithOr",
    "core/ReplaceOrWithAnd",
    "core/ReplaceTrueWithFalse",
    "core/ReplaceFalseWithTrue",
    "core/ReplaceBreakWithContinue",
    "core/ReplaceContinueWithBreak",
    "core/ExceptionReplacer",
    "core/ZeroIterationForLoop",
)


#: A number that was chosen: another one is as right.
_CHOSEN = re.compile(r"_?[A-Z][A-Z_0-9]* = [-\d.e <*]+(#.*)?$")


@dataclass(frozen=True)
class Mutant:
    """One place of one file, and what is changed there.

    Attributes:
        file: Relative to the project.
        line: From 1.
        operator: Of cosmic-ray.
        occurrence: Among the places in the file that the operator changes, from 0.
        source: The file as it is.
    """

    file: str
    line: int
    operator: str
    occurrence: int
    source: str

    @property
    def key(self) -> str:
        return f"{self.file}:{self.line} {self.operator.removeprefix('core/')}.{self.occurrence}"

    @cached_property
    def text(self) -> str | None:
        """All of the changed file; None where the change is none to the interpreter."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        text = mutate_code(self.source, get_operator(self.operator)(), self.occurrence)
        try:
            return text if text and _meaning(text) != _meaning(self.source) else None
        except SyntaxError:
            return None

    @property
    def change(self) -> str:
        """The changed lines, before and after."""
        texts = self.source.splitlines(), (self.text or "").splitlines()
        return "\n".join([*difflib.unified_diff(*texts, n=0, lineterm="")][3:])


def mutants_of(file: str) -> Iterator[Mutant]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    source = (PROJECT / file).read_text("utf-8")
    lines, nodes = source.splitlines(), [*ast_nodes(get_ast(source))]
    for name in _OPERATORS:
        operator = get_operator(name)()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, ((line, _), _) in enumerate(places):
            if name != "core/NumberReplacer" or not _CHOSEN.match(lines[line - 1]):
                yield Mutant(file, line, name, occurrence, source)


def _meaning(source: str) -> str:
    """What the interpreter is told, less annotations and how arguments may be passed."""
    with warnings.catch_warnings(action="ignore"):  # 1 is not None
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.arguments):  # a bare * is no product
            node.args = node.posonlyargs + node.args + node.kwonlyargs
            node.defaults += [default for default in node.kw_defaults if default]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
    return ast.dump(tree)
