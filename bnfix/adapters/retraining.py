"""An optimizer of Keras 3 for fewer weights than the one it follows, with what that has learned.

Where training holds weights by position, an optimizer serves those alone that it was built for.
What it keeps for a weight, its slots, is named after that weight:

    adam/dense_kernel_momentum    of the weight dense/kernel

so slots are told apart by their paths. Where two weights have one path, they are told apart by
their order, if both go on or neither does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from bnfix.errors import UnsupportedModelError, gist


def built_for(optimizer: Any, weights: Sequence[Any]) -> Any:
    """An optimizer as `optimizer`, built, with its state, to train `weights`.

    Args:
        optimizer: Built, of Keras 3. It is left as it is.
        weights: Trained by it, in the order of the model.

    Raises:
        UnsupportedModelError: Its configuration does not make it anew, or its slots cannot be told
            apart.
    """
    try:
        fresh = type(optimizer).from_config(optimizer.get_config())
        for old, new in zip(_nested(optimizer), _nested(fresh), strict=True):
            _exclude(old, new, weights)
        fresh.build(list(weights))
    except Exception as error:  # whatever an optimizer of the user's own raises
        raise _refusal(optimizer, gist(error)) from error
    _carry(optimizer, fresh, weights)
    return fresh


#: By optimizer, layers whose flags bnfix has set since, and how: it goes on to know their weights,
#: and `fit`, which is compiled anew, does not ask it.
_since: WeakKeyDictionary[Any, WeakKeyDictionary[Any, bool]] = WeakKeyDictionary()


def note_flags(optimizer: Any, layers: Iterable[Any]) -> None:
    """Remember that `fit` goes by the flags that `layers` have now."""
    known = _since.setdefault(optimizer, WeakKeyDictionary())
    known.update((layer, layer.trainable) for layer in layers)


def goes_by(optimizer: Any, layer: Any, weights: Sequence[Any]) -> bool:
    """Whether `fit` trains `layer`, whose `weights` these are, as far as `optimizer` tells."""
    known = _since.get(optimizer, {})
    if layer in known:
        return bool(known[layer])
    trained = {id(variable) for variable in trained_by(optimizer)}
    return any(id(variable) in trained for variable in weights)


def trained_by(optimizer: Any) -> list[Any]:
    """The weights that `optimizer` was built for; there is no public list of them."""
    return list(optimizer._trainable_variables)


def _nested(optimizer: Any) -> list[Any]:
    """It, and those that it wraps."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [optimizer, *([] if inner is None else _nested(inner))]


def _exclude(old: Any, new: Any, weights: Sequence[Any]) -> None:
    """Spare the same weights from decay, which a configuration does not tell of."""
    spared = [weight for weight in weights if not old._use_weight_decay(weight)]
    if spared:
        new.exclude_from_weight_decay(var_list=spared)


def _carry(old: Any, new: Any, weights: Sequence[Any]) -> None:
    held, wanted = _by_path(old.variables), _by_path(new.variables)
    for path, slots in wanted.items():
        if [slot.shape for slot in held[path]] != [slot.shape for slot in slots]:
            raise _refusal(old, f"what it keeps as {path} is not one and the same before and after")
        for before, now in zip(held[path], slots, strict=True):
            now.assign(before.numpy())  # a copy: JAX gives away what a step is given
    kept = {id(weight) for weight in weights}
    gone = [_flat(weight.path) for weight in trained_by(old) if id(weight) not in kept]
    for path in held:
        slot = path.rpartition("/")[2]
        if path not in wanted and not any(slot.startswith(f"{name}_") for name in gone):
            raise _refusal(old, f"{path} is made by nothing that its configuration tells of")


def _by_path(variables: Sequence[Any]) -> defaultdict[str, list[Any]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for variable in variables:
        found[variable.path].append(variable)
    return found


def _flat(path: str) -> str:
    return path.replace("/", "_")


def _refusal(optimizer: Any, seen: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{type(optimizer).__name__} cannot be made anew for fewer weights ({seen}), and on this "
        "backend it trains those alone that it was built for. Between two calls of fit, call "
        "model.compile(...) with a new optimizer, then bnfix.freeze(model)."
    )
