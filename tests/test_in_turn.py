"""Ordinary runs take each test in one Keras: half of them in either, none in neither."""

from collections import Counter

import conftest
import pytest
import zoo


class Item:
    """A test as pytest has collected it."""

    def __init__(self, nodeid, *marks):
        self.nodeid, self.marks = nodeid, list(marks)

    def get_closest_marker(self, name):
        return next(
            (mark for mark in self.marks if name in (mark, getattr(mark, "name", ""))), None
        )

    def add_marker(self, name):
        self.marks.append(name)


def collected():
    """Two laws of five cases in each Keras, a test that is for both, and some in one alone."""
    laws = [
        Item(f"test_a.py::{law}[{dialect}-case_{case}]")
        for law in ("one", "other")
        for dialect in zoo.DIALECTS
        for case in range(5)
    ]
    both = [Item(f"test_a.py::both[{dialect}]", "both") for dialect in zoo.DIALECTS]
    alone = [Item("test_a.py::alone[tf_keras-case]"), Item("test_a.py::plain")]
    late = [Item("test_a.py::late[keras3]", "long"), Item("test_a.py::late[tf_keras]")]
    return laws, both, [*alone, late[1]], late[0]


def assert_in_turn(choose):
    laws, both, alone, late = collected()
    slow = [
        Item(f"test_a.py::slow[{dialect}-case_{case}]", pytest.mark.every(3).mark)
        for dialect in zoo.DIALECTS
        for case in range(12)
    ]
    choose([*laws, *slow, *both, *alone, late])
    taken = [item.nodeid for item in slow if "long" not in item.marks]
    assert len(taken) == 12 / 3
    assert sum("[keras3" in nodeid for nodeid in taken) == len(taken) / 2
    ordinary = [item for item in laws if "long" not in item.marks]
    cases = Counter(
        item.nodeid.replace("keras3-", "").replace("tf_keras-", "") for item in ordinary
    )
    assert set(cases.values()) == {1}
    assert len(cases) == len(laws) / 2
    assert sum("[keras3" in item.nodeid for item in ordinary) == len(cases) / 2
    assert not any("long" in item.marks for item in (*both, *alone))


def test_each_case_is_taken_in_one_keras_the_two_in_turn():
    if len(zoo.DIALECTS) < 2:
        pytest.skip(f"there is one Keras on {zoo.BACKEND}")
    assert_in_turn(conftest.pytest_collection_modifyitems)


def test_the_law_rejects_a_choice_of_always_the_first_or_of_all():
    if len(zoo.DIALECTS) < 2:
        pytest.skip(f"there is one Keras on {zoo.BACKEND}")

    def first(items):
        for item in items:
            if "[tf_keras-case_" in item.nodeid and "alone" not in item.nodeid:
                item.add_marker("long")

    for wrong in (first, lambda items: None):
        with pytest.raises(AssertionError):
            assert_in_turn(wrong)
