"""Whatever becomes of a file's bytes, its reader gives a report or a refusal, and nothing else."""

import functools
import tempfile
from pathlib import Path

import hostile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bnfix
from bnfix.files.container import format_of, opened
from bnfix.files.harmless import check_harmless
from bnfix.files.plan import plan_for
from bnfix.files.text import parsed

SEEDS = {
    "plain.h5": hostile.plain_h5,
    "plain.keras": hostile.plain_keras,
    "lambda.h5": hostile.CORPUS["marshalled_lambda.h5"],
    "packed.keras": functools.partial(hostile.plain_keras, packed=8),
}
EXAMPLES = 150


@functools.cache
def seed(name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        SEEDS[name](path)
        return path.read_bytes()


@st.composite
def mutated(draw, content):
    """`content` with some bytes changed, a piece put elsewhere, or its end cut off."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(changed) - 1))
        changed[at] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        start, to = (draw(st.integers(0, len(changed) - 1)) for _ in range(2))
        size = draw(st.integers(1, 64))
        changed[to : to + size] = changed[start : start + size]
    if draw(st.integers(0, 5)) == 0:
        del changed[draw(st.integers(1, len(changed))) :]
    return bytes(changed)


def looked_into(path):
    """`inspect`, and what `load` does before a Keras is asked."""
    bnfix.inspect(path)
    with opened(*format_of(path)) as stored:
        plan_for(stored, {}, allow_unsafe=False)
        if stored.weights is not None:
            check_harmless(stored.weights)


def assert_understood(content, name, read=looked_into):
    """Nothing but a refusal of bnfix's own comes out of `read`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        said = "."
        try:
            read(path)
        except bnfix.BnfixError as refusal:
            said = str(refusal)
        assert said.endswith(".")
        assert [found.name for found in Path(folder).iterdir()] == [name]


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_bytes_that_were_changed_are_refused_or_read(name, data):
    assert_understood(data.draw(mutated(seed(name))), name)


def test_a_reader_that_lets_foreign_errors_through_is_caught():
    def careless(path):
        import h5py

        with h5py.File(path) as file:
            return file.attrs["model_config"]

    content = seed("plain.h5")
    with pytest.raises((OSError, KeyError)):
        assert_understood(content[:100], "plain.h5", careless)
    assert_understood(content, "plain.h5", careless)


#: What readers of configurations look for.
KEYS = (
    *("class_name", "config", "name", "layers", "module", "registered_name", "inbound_nodes"),
    *("kwargs", "training", "function", "function_type", "node_def", "op", "layer", "axis"),
    *("epsilon", "vocabulary", "spec_name"),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner | st.sampled_from(["Lambda", "TFOpLambda", "function", "BatchNormalization"]),
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=EXAMPLES * 2)
@given(config=st.dictionaries(st.sampled_from(["class_name", "config"]), json_values))
def test_any_json_in_place_of_a_configuration_is_refused_or_read(config):
    import json

    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(config)
        assert_understood(path.read_bytes(), "model.h5", looked_into)
        assert_understood(path.read_bytes(), "model.h5", edited)


def edited(path):
    """An edit over the file itself, which needs no place beside it."""
    bnfix.repair_file(path, path, overwrite=True, freeze=True, replace_non_finite=True)


@given(text=st.text(max_size=200))
def test_any_text_is_an_object_or_refused(text):
    found, said = {}, "its text "
    try:
        found = parsed(text, "its text")
    except bnfix.FileError as refusal:
        said = str(refusal)
    assert isinstance(found, dict)
    assert said.startswith("its text ")
