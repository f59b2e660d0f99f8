"""The notebook of the documentation runs, and shows what it says."""

import json
import re

import pytest
from digits_notebook import PATH, executed, shown


def text_of(outputs):
    return "".join("".join(one.get("text", "")) for one in outputs)


def kinds(outputs):
    return {kind for one in outputs for kind in one.get("data", {})}


def test_the_notebook_is_kept_with_what_its_cells_show():
    cells = [c for c in json.loads(PATH.read_text())["cells"] if c["cell_type"] == "code"]
    found = [cell["outputs"] for cell in cells]
    assert sum("image/png" in kinds(outputs) for outputs in found) == 2
    assert sum("text/html" in kinds(outputs) for outputs in found) == 3
    assert not any(one["output_type"] == "error" for outputs in found for one in outputs)
    fit, predict = map(float, re.findall(r"([\d.]+)%", text_of(found[1])))
    assert fit > 95 > 50 > predict, "the story that it tells"


@pytest.mark.long
def test_every_cell_runs_and_shows_what_is_kept():
    pytest.importorskip("nbclient", reason="nbclient is not installed: bnfix[docs]")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: bnfix[docs]")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: bnfix[demo]")
    kept = [c["outputs"] for c in json.loads(PATH.read_text())["cells"] if c["cell_type"] == "code"]
    now = shown(executed(PATH))
    assert [kinds(outputs) for outputs in now] == [kinds(outputs) for outputs in kept]
    assert "9 of 9 layers changed" in text_of(now[-2])
