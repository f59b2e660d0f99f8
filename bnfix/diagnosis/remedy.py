"""What mends a symptom: data, of which both the line to paste and the deed of `repair` are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bnfix.report import Rendered, Word


class Verb(Word):
    """What there is to do."""

    STRIP_TRAINING = "strip_training"
    FREEZE = "freeze"
    RECALIBRATE = "recalibrate"
    EXCHANGE = "exchange"
    TO_GROUP_NORM = "to_group_norm"
    COMPILE = "compile"
    RAISE_EPSILON = "raise_epsilon"
    ASK_LABELS = "ask_labels"


@dataclass(frozen=True)
class Remedy(Rendered):
    """One call that mends; as a string it is the code, to be run where `model`, `x`, `y` are known.

    Attributes:
        verb: What to do.
        paths: Of the layers or calls to do it to; None for all that there are. An empty one stands
            for those of the symptom, until `on` fills it.
        exchanged: Pairs of weights that stand in each other's place.
        labels: Whether the call is to be given labels as well.
    """

    verb: Verb
    paths: tuple[str, ...] | None = None
    exchanged: tuple[tuple[str, str], ...] = ()
    labels: bool = False

    def on(self, paths: tuple[str, ...]) -> Remedy:
        """The same for the layers at `paths`, if it is for certain layers and not told which."""
        return replace(self, paths=paths) if self.paths == () else self

    def __str__(self) -> str:
        return _CODE[self.verb](self)


def _call(remedy: Remedy, *given: str) -> str:
    chosen = [] if remedy.paths is None else [f"layers={list(remedy.paths)!r}"]
    return f"model = bnfix.{remedy.verb}({', '.join(['model', *given, *chosen])})"


def _layer(remedy: Remedy) -> str:
    names = (remedy.paths or ("",))[0].split("/")
    return "model" + "".join(f'.get_layer("{name}")' for name in names)


def _exchange(remedy: Remedy) -> str:
    order = ["gamma", "beta", "moving_mean", "moving_variance"]
    for ours, theirs in remedy.exchanged:
        here, there = order.index(ours), order.index(theirs)
        order[here], order[there] = order[there], order[here]
    letters = {"gamma": "g", "beta": "b", "moving_mean": "m", "moving_variance": "v"}
    back = ", ".join(letters[name] for name in order)
    return f"bn = {_layer(remedy)}; g, b, m, v = bn.get_weights(); bn.set_weights([{back}])"


_CODE: dict[Verb, Callable[[Remedy], str]] = {
    Verb.STRIP_TRAINING: _call,
    Verb.FREEZE: _call,
    Verb.RECALIBRATE: lambda remedy: _call(remedy, "(x, y)" if remedy.labels else "x"),
    Verb.EXCHANGE: _exchange,
    Verb.TO_GROUP_NORM: lambda remedy: "model = bnfix.to_group_norm(model, groups=-1)",
    Verb.COMPILE: lambda remedy: "model.compile_from_config(model.get_compile_config())",
    Verb.RAISE_EPSILON: lambda remedy: f"{_layer(remedy)}.epsilon = 1e-3",
    Verb.ASK_LABELS: lambda remedy: (
        "print(bnfix.diagnose(model, (x, y)))  # the loss tells whether recalibrate helps"
    ),
}
