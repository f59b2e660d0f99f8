"""The comparison with other tools judges rightly, and calls a wrong fold wrong."""

import json
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import zoo

from benchmarks.compare import in_keras, prepare, running, worker
from benchmarks.compare.graphs import GRAPHS
from benchmarks.compare.opponents import bnfix as itself
from benchmarks.compare.opponents import of_keras
from benchmarks.compare.outcomes import Outcome, judged

pytestmark = pytest.mark.skipif(
    zoo.BACKEND != "tensorflow", reason="the comparison runs Keras on TensorFlow"
)

TWO = ("conv", "relu_between")


@pytest.fixture(scope="module")
def depths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    return folder, {name: prepare.write(keras, GRAPHS[name], folder) for name in TWO}


def outcomes(fold, depths):
    """Those of `fold`, without a process of its own."""
    folder, deep = depths
    opponent = SimpleNamespace(VERSIONS=(), fold=fold)
    told = list(worker.lines(opponent, "keras", str(folder), TWO))[1:]
    return {line["graph"]: judged(line, deep[line["graph"]]) for line in told}


def test_there_are_many_graphs():
    assert len(GRAPHS) >= 60


def test_bnfix_folds_what_can_be_folded_and_says_why_not_else(depths):
    assert outcomes(itself.fold, depths) == {"conv": Outcome.FOLDED, "relu_between": Outcome.LEFT}


def forgets_the_shift(model, inputs):
    """Folds, and forgets beta."""
    folded = itself.fold(model, inputs)
    return folded._replace(run=lambda arrays: [x + 0.01 for x in folded.run(arrays)])


def leaves(model, inputs):
    return of_keras(model, [])


def gives_up(model, inputs):
    sys.exit()


def drops_an_output(model, inputs):
    return of_keras(model, [])._replace(run=lambda arrays: [])


@pytest.mark.parametrize(
    ("fold", "expected"),
    [
        (forgets_the_shift, Outcome.WRONG),
        (drops_an_output, Outcome.WRONG),
        (leaves, Outcome.LEFT_SILENTLY),
        (gives_up, Outcome.RAISED),
    ],
)
def test_other_folds_are_called_what_they_are(fold, expected, depths):
    assert set(outcomes(fold, depths).values()) == {expected}


def test_a_network_that_is_another_one_is_not_judged(depths, tmp_path):
    folder, deep = depths
    with np.load(folder / "conv.npz") as stored:
        np.savez(tmp_path / "conv.npz", **{**stored, "output_0": stored["output_0"] + 1})
    (told,) = list(worker.lines(SimpleNamespace(VERSIONS=()), "keras", str(tmp_path), ("conv",)))[
        1:
    ]
    assert judged(told, deep["conv"]) is Outcome.NOT_THERE


def test_a_process_that_dies_counts_for_the_graph_it_died_at(monkeypatch, tmp_path):
    def run(command, **options):
        graphs = command[6:]
        lines = [{"versions": {}}]
        if "bad" not in graphs[:1]:
            lines.append(
                {"graph": graphs[0], "norms": 1, "left": 0, "reasons": [], "difference": 0}
            )
        text = "\n".join(map(json.dumps, lines))
        return SimpleNamespace(stdout=text, stderr="Segmentation fault", returncode=-11)

    monkeypatch.setattr(running.subprocess, "run", run)
    depths = {"good": 3, "bad": 3, "fine": 3}
    found = running.results(itself, "python", "keras", tmp_path, depths)["graphs"]
    assert {name: told["outcome"] for name, told in found.items()} == {
        "good": "folded",
        "bad": "raised",
        "fine": "folded",
    }


def test_both_kerases_build_every_graph_alike(depths):
    tf_keras = pytest.importorskip("tf_keras", reason="needs Keras 2 beside Keras 3")
    folder, _ = depths
    with np.load(folder / "conv.npz") as stored:
        weights = dict(stored)
    model = in_keras.model_of(tf_keras, GRAPHS["conv"], weights)
    (found,) = in_keras.run(model, [weights["input_0"]])
    np.testing.assert_allclose(found, weights["output_0"], atol=1e-5)
