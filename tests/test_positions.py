"""Maps of rows past reshapes of rows whose length is not known."""

from types import SimpleNamespace

import numpy as np
import pytest

from bnfix.graph.graph import Value
from bnfix.numerics.affine import Affine
from bnfix.passes.absorbing import Objection
from bnfix.passes.positions import reshape_after, reshape_before

BY_CHANNEL = Affine(np.arange(1.0, 5.0).reshape(1, 4), np.arange(4.0).reshape(1, 4))
EVERYWHERE_ALIKE = Affine(np.full((1, 1), 2.0), np.ones((1, 1)))


def reshape(old, new):
    inputs, outputs = (Value(at, 0, (None, *row), "float32") for at, row in enumerate((old, new)))
    return SimpleNamespace(path="reshape", kind="Reshape", inputs=(inputs,), outputs=(outputs,))


def test_channels_that_stay_last_keep_their_map():
    call = reshape((None, 4), (None, 5, 4))
    behind = reshape_after(call, {}, BY_CHANNEL)
    np.testing.assert_array_equal(behind.scale, BY_CHANNEL.scale[np.newaxis])
    np.testing.assert_array_equal(behind.shift, BY_CHANNEL.shift[np.newaxis])
    ahead = reshape_before(call, {}, behind)
    np.testing.assert_array_equal(ahead.scale, BY_CHANNEL.scale)
    np.testing.assert_array_equal(ahead.shift, BY_CHANNEL.shift)


def test_a_map_that_is_the_same_everywhere_goes_past_as_well():
    behind = reshape_after(reshape((None, 4), (None, 5, 4)), {}, EVERYWHERE_ALIKE)
    assert np.broadcast_shapes(behind.scale.shape, (3, 5, 4)) == (3, 5, 4)
    assert (behind.scale == 2).all()
    assert (behind.shift == 1).all()


@pytest.mark.parametrize(
    ("old", "new", "affine"),
    [
        ((None, 4), (None, 8), BY_CHANNEL),
        ((4, None), (2, 2, None), EVERYWHERE_ALIKE),
        ((None, 4), (None, 2, 4), Affine(np.ones((3, 4)), np.ones((3, 4)) * [[1], [2], [3]])),
    ],
    ids=["other_channels", "channels_of_unknown_number", "positions_differ"],
)
def test_otherwise_it_has_to_stay(old, new, affine):
    with pytest.raises(Objection, match="unknown length"):
        reshape_after(reshape(old, new), {}, affine)
