"""The recipes of the documentation run as they stand, in both Kerases."""

import ast
import re
from pathlib import Path

import pytest
import zoo

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text("utf-8")


def blocks(dialect):
    """Title and code of each recipe that `dialect` has."""
    title = ""
    for part in re.findall(
        r"^## [^\n]+$|(?:^<!-- [^\n]+ -->\n)?^```python\n.*?^```$", PAGE, re.M | re.S
    ):
        if part.startswith("## "):
            title = part[3:]
        elif dialect == "keras3" or "<!-- Keras 3 -->" not in part:
            yield title, re.sub(r"^<!--.*\n|^```\w*\n?", "", part, flags=re.M)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_every_recipe_runs(dialect, capsys):
    K = zoo.keras_module(dialect)
    pytest.importorskip("pandas")
    names = {"keras": K}
    try:
        for title, code in blocks(dialect):
            exec(compile(code, f"recipe: {title}", "exec"), names)
    finally:
        K.mixed_precision.set_global_policy("float32")
    assert capsys.readouterr().out == "", "nothing is said where verbose=0"


def test_recipes_cover_the_ways_of_training():
    titles = [title for title, _ in blocks("keras3")]
    assert len(titles) == len(set(titles)) == 13
    for _, code in blocks("keras3"):
        ast.parse(code)
    assert len([*blocks("tf_keras")]) == len(titles) - 1
