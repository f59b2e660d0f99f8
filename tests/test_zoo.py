"""The zoo itself: every model builds, runs, and is what its tags say."""

import numpy as np
import pytest
import zoo

# Models with a graph are built and read in test_graph; here they are in long runs.
CASES = zoo.cases(quick=lambda entry, dialect: "subclassed" in entry.tags_in(dialect))


def _leaves(structure):
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, list | tuple):
        return [leaf for part in structure for leaf in _leaves(part)]
    return [zoo.to_numpy(structure).astype("float64")]


@pytest.mark.parametrize(("entry", "dialect"), CASES)
def test_a_model_builds_and_runs_and_has_a_bn_exactly_when_tagged(entry, dialect):
    K = zoo.keras_module(dialect)
    before = K.backend.floatx(), K.mixed_precision.global_policy().name
    model = zoo.build(entry, dialect)
    outputs = _leaves(model(zoo.inputs_for(model, rows=3)))

    assert outputs
    for output in outputs:
        assert len(output) == 3
        assert np.isfinite(output).all()
    tags = entry.tags_in(dialect)
    assert bool(zoo.batch_norms(model)) == ("bn" in tags)
    assert len(tags & {"functional", "sequential", "subclassed"}) == 1
    after = K.backend.floatx(), K.mixed_precision.global_policy().name
    assert after == before, "the builder leaked global state"
