"""One set of rules for nested structures: what is a leaf, and what comes back."""

from collections import OrderedDict, namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfix import tree

Pair = namedtuple("Pair", "left right")

structures = st.recursive(
    st.none() | st.integers(),
    lambda part: (
        st.lists(part, max_size=3)
        | st.lists(part, max_size=3).map(tuple)
        | st.builds(Pair, part, part)
        | st.dictionaries(st.text(max_size=2), part, max_size=3)
        | st.builds(slice, part, part, part)
    ),
    max_leaves=8,
)


def assert_laws(structure):
    assert tree.map_leaves(lambda leaf: leaf, structure) == structure
    found = iter(tree.leaves(structure))
    assert tree.map_leaves(lambda leaf: next(found), structure) == structure
    assert list(found) == []
    assert None not in list(tree.leaves(structure))
    doubled = tree.map_leaves(lambda a, b: a + b, structure, structure)
    assert list(tree.leaves(doubled)) == [2 * leaf for leaf in tree.leaves(structure)]


@given(structure=structures)
def test_a_structure_is_kept_and_its_leaves_come_in_order(structure):
    assert_laws(structure)


def test_a_named_tuple_made_a_tuple_would_be_seen(monkeypatch):
    monkeypatch.setattr(tree, "is_named", lambda structure: False)
    mapped = tree.map_leaves(lambda leaf: leaf, Pair(1, (2, None)))
    assert not hasattr(mapped, "left")


def test_the_kinds_of_a_structure_stay_what_they_are():
    mapped = tree.map_leaves(str, Pair([1, None], ({"a": 2}, slice(3, None))))
    assert mapped == Pair(["1", None], ({"a": "2"}, slice("3", None)))
    assert isinstance(mapped, Pair)
    assert tree.map_leaves(str, OrderedDict(a=1)) == {"a": "1"}


def test_structures_that_differ_do_not_go_along():
    with pytest.raises(ValueError, match="shorter"):
        tree.map_leaves(lambda a, b: a, [1, 2], [1])
