"""The code of the documentation runs as it stands: recipes in both Kerases, the rest once."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import workers
import zoo

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "recipes.md").read_text("utf-8")


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


SCRIPT = r"<!-- train.py, in each worker -->\n```python\n(.*?)^```$"


def test_shards_of_data_are_measured_as_the_page_on_distribution_says(tmp_path, monkeypatch):
    page = re.sub(SCRIPT, "", (DOCS / "distribution.md").read_text("utf-8"), flags=re.M | re.S)
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert len(found) == 3
    names = {}
    for code in found:
        exec(compile(code, "docs/distribution.md", "exec"), names)


@pytest.mark.long
def test_the_script_of_the_page_runs_in_two_workers(tmp_path):
    page = (DOCS / "distribution.md").read_text("utf-8")
    (tmp_path / "train.py").write_text(re.search(SCRIPT, page, re.M | re.S)[1])
    command = re.search(r"^```sh\n(.*?)^```$", page, re.M | re.S)[1]
    for documented, free in zip(("2222", "2223"), workers.free_ports(2), strict=True):
        command = command.replace(documented, free)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    one, other = ran.stdout.splitlines()
    assert one == other, "both workers have the same statistics, to the last bit"
    assert one.startswith(("True ", "False "))
