"""The public face: one word for one thing, and everything that users meet has a public name."""

import ast
import dataclasses
import doctest
import inspect
import io
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bnfix
from bnfix.report import Rendered, VerbReport

VERBS = [
    name
    for name in bnfix.__all__
    if inspect.isfunction(getattr(bnfix, name)) and not name.startswith("_")
]
CALLBACKS = ("FreezeBN", "RecalibrateBN")
#: Of all verbs that have it: the annotation and the default.
MEANINGS = {
    "layers": ("Selection", None),
    "verbose": ("int | str", "auto"),
    "return_report": ("bool", False),
    "batch_size": ("int", 32),
    "steps": ("int | None", None),
    "min_count": ("int", 32),
    "memory_limit": ("int | str | None", None),
    "overwrite": ("bool", False),
    "open": ("str", "auto"),
}
#: Names that one thing must not have beside its own.
SYNONYMS = {"where", "paths", "selection", "data", "dataset", "inputs", "progress", "report"}


def problems(verb: Any) -> Iterator[str]:
    for name, parameter in inspect.signature(verb).parameters.items():
        if name in SYNONYMS:
            yield f"{verb.__name__} has {name}="
        wanted = MEANINGS.get(name)
        # The one positional of them: how many rows `batch_invariant` takes together.
        if wanted is None or verb is bnfix.batch_invariant:
            continue
        if (parameter.annotation, parameter.default) != wanted:
            yield f"{verb.__name__}({name}: {parameter.annotation} = {parameter.default!r})"


@pytest.mark.parametrize("name", VERBS)
def test_an_argument_means_the_same_everywhere(name):
    assert list(problems(getattr(bnfix, name))) == []


def test_another_word_or_default_is_seen():
    def odd(model: Any, *, where: Any = None, verbose: "int | str" = 0) -> Any: ...

    assert len(list(problems(odd))) == 2


# --- reports -------------------------------------------------------------------------------------


def parts(kind: Any, seen: dict[type, None]) -> dict[type, None]:
    """Every report of which one of type `kind` is made."""
    for argument in typing.get_args(kind):
        parts(argument, seen)
    if isinstance(kind, type) and issubclass(kind, Rendered) and kind not in seen:
        seen[kind] = None
        public = {name: getattr(bnfix, name) for name in bnfix.__all__}
        for hint in typing.get_type_hints(kind, None, public).values():
            parts(hint, seen)
    return seen


REPORTS = [
    value
    for value in (getattr(bnfix, name) for name in bnfix.__all__)
    if isinstance(value, type) and issubclass(value, VerbReport)
]


@pytest.mark.parametrize("kind", REPORTS, ids=lambda kind: kind.__name__)
def test_what_a_report_is_made_of_has_a_public_name_and_says_what_its_fields_are(kind):
    for part in parts(kind, {}):
        assert getattr(bnfix, part.__name__, None) is part
        told = "".join(each.__doc__ or "" for each in part.__mro__[:-1])
        for field in dataclasses.fields(part):
            assert f"{field.name}:" in told, f"{part.__name__}.{field.name}"


def test_a_report_is_true_where_it_is_ok_or_refuses_to_be_either():
    @dataclasses.dataclass(frozen=True)
    class Fine(VerbReport):
        ok: bool

    assert Fine(True)
    assert not Fine(False)
    with pytest.raises(TypeError, match=r"Report is neither true nor false.*changed"):
        bool(bnfix.Report("fold"))
    with pytest.raises(TypeError, match=r"RecalibrationReport is neither true nor false.*kept"):
        bool(bnfix.RecalibrationReport((), 1))


# --- editors -------------------------------------------------------------------------------------


def overloads(verb: Any) -> list[ast.FunctionDef]:
    tree = ast.parse(Path(inspect.getsourcefile(inspect.unwrap(verb))).read_text("utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [node for node in found if node.name == verb.__name__]


@pytest.mark.parametrize(
    "name", [n for n in VERBS if "return_report" in inspect.signature(getattr(bnfix, n)).parameters]
)
def test_editors_know_what_comes_back_with_a_report(name):
    *told, real = overloads(getattr(bnfix, name))
    returns = [ast.unparse(each.returns) for each in told]
    assert returns[1] == f"tuple[{returns[0]}, {returns[1].split(', ')[-1]}"
    wanted = {arg.arg: ast.unparse(arg.annotation) for arg in real.args.args + real.args.kwonlyargs}
    for each, flag in zip(told, (False, True), strict=True):
        arguments = each.args.args + each.args.kwonlyargs
        given = {arg.arg: ast.unparse(arg.annotation) for arg in arguments}
        assert given == {**wanted, "return_report": f"Literal[{flag}]"}


# --- examples ------------------------------------------------------------------------------------

SHOWN = [*((name, bnfix) for name in VERBS), *((n, bnfix.callbacks) for n in CALLBACKS)]


@pytest.mark.every(2)
@pytest.mark.parametrize(("name", "home"), SHOWN, ids=[name for name, _ in SHOWN])
def test_the_example_of_a_docstring_runs_and_prints_what_it_says(name, home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown = doctest.DocTestParser().get_doctest(
        inspect.getdoc(getattr(home, name)), names(), name, None, None
    )
    assert shown.examples
    printed = io.StringIO()
    failed, tried = doctest.DocTestRunner(optionflags=doctest.REPORT_ONLY_FIRST_FAILURE).run(
        shown, out=printed.write
    )
    assert tried == len(shown.examples)
    assert not failed, printed.getvalue()


def names() -> dict[str, Any]:
    """What the examples take for granted: a model whose statistics were never trained, and data."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.BatchNormalization(name="bn")(keras.layers.Dense(4, name="dense")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(keras.layers.ReLU()(x)))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    rows = np.random.default_rng(0).normal(3.0, 2.0, (64, 6)).astype("float32")
    labels = keras.ops.convert_to_numpy(model(rows, training=True)) + 0.01
    return {"bnfix": bnfix, "keras": keras, "np": np, "model": model, "x": rows, "y": labels}
