"""Stop at every call of a BatchNormalization, with the moments of what it is given.

What happens there, until the call goes on, decides by which statistics it normalizes: it goes on as
in inference, `training=True` or not, by what the layer then has stored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bnfix.adapters.base import Adapter
from bnfix.adapters.intercepting import intercepted
from bnfix.errors import ModelError
from bnfix.numerics.moments import ChannelMoments
from bnfix.recalibration.measuring import moments_of


@dataclass(frozen=True)
class Arrival:
    """A call of a BatchNormalization that has not normalized yet."""

    path: str
    moments: ChannelMoments


@contextmanager
def arrivals(
    adapter: Adapter, norms: Mapping[str, Any], arrive: Callable[[Arrival], None]
) -> Generator[None]:
    """While the block runs, each call of one of `norms`, by path, begins with `arrive`."""
    paths = {id(layer): path for path, layer in norms.items()}

    def wrap(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        path, signature = paths[id(layer)], inspect.signature(call)

        def normalize(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            tensor = next(iter(given.arguments.values()))
            if not adapter.has_values(tensor):
                raise _compiled(path)
            mask = given.arguments.get("mask")
            arrive(Arrival(path, moments_of(adapter, layer, tensor, mask, path=path)))
            if "training" in signature.parameters:
                given.arguments["training"] = False
            return call(*given.args, **given.kwargs)

        return normalize

    with intercepted(norms.values(), wrap):
        yield


def _compiled(path: str) -> ModelError:
    return ModelError(
        f"{path} is called while the model compiles a part of itself, where it has no values to "
        "measure. Run the model once before, so that all of it is built; take a loop such as "
        "tf.vectorized_map out of it; or leave the layer out with layers=.",
        path=path,
    )
