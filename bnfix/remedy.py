"""What mends a finding: data, of which both the line to paste and the deed of `repair` are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from bnfix.report import Rendered, Word

#: How a fix begins that is a sentence, not code.
NO_CALL = "no call mends it: "


class Verb(Word):
    """What there is to do."""

    STRIP_TRAINING = "strip_training"
    STRIP_AUGMENTATION = "strip_augmentation"
    FREEZE = "freeze"
    RECALIBRATE = "recalibrate"
    EXCHANGE = "exchange"
    TO_GROUP_NORM = "to_group_norm"
    COMPILE = "compile"
    MAKE_PREDICT = "make_predict_function"
    RAISE_EPSILON = "raise_epsilon"
    ASK_LABELS = "ask_labels"


@dataclass(frozen=True)
class Remedy(Rendered):
    """One call that mends; as a string it is the code, to be run where `model`, `x`, `y` are known.

    Attributes:
        verb: What to do.
        paths: Of the layers or calls to do it to; None for all that there are. An empty one stands
            for those of the symptom, until `on` fills it.
        exchanged: Pairs of weights to be put in each other's place, one pair after the other.
        labels: Whether the call is to be given labels as well.
        data: Whether it is to be given inputs, where it can do without.
        optional: Whether what it takes away may be wanted, so that `repair` leaves it to the user.
        groups: Of GroupNormalization; -1 for one a channel, None leaves it open.
    """

    verb: Verb
    paths: tuple[str, ...] | None = None
    exchanged: tuple[tuple[str, str], ...] = ()
    labels: bool = False
    data: bool = False
    optional: bool = False
    groups: int | None = -1

    def on(self, paths: tuple[str, ...]) -> Remedy:
        """The same for the layers at `paths`, if it is for certain layers and not told which."""
        return replace(self, paths=paths) if self.paths == () else self

    def __str__(self) -> str:
        return _CODE[self.verb](self)


class Mendable(Rendered):
    """Something found that may have a remedy: base of what `check` and `diagnose` report.

    Attributes:
        remedy: The one call that mends it, or None.
        advice: What to do where no call does; beside a remedy, what to know about it.
        severity: Of a "note" nothing has to be mended.
    """

    derived: ClassVar[tuple[str, ...]] = ("fix",)

    remedy: Remedy | None
    advice: str
    severity: str

    @property
    def code(self) -> str | None:
        """The remedy as code, to be run where `model`, `x` and `y` are known; None without one."""
        return None if self.remedy is None else str(self.remedy)

    @property
    def fix(self) -> str:
        """What to do: code to paste, or a sentence where no call mends it; may be empty."""
        if self.remedy is not None:
            return f"{self.remedy}  # {self.advice}" if self.advice else str(self.remedy)
        return f"{NO_CALL}{self.advice}" if self.advice and self.severity != "note" else self.advice


def _call(remedy: Remedy, *given: str) -> str:
    chosen = [] if remedy.paths is None else [f"layers={list(remedy.paths)!r}"]
    return f"model = bnfix.{remedy.verb}({', '.join(['model', *given, *chosen])})"


def _layer(remedy: Remedy) -> str:
    names = (remedy.paths or ("",))[0].split("/")
    return "model" + "".join(f'.get_layer("{name}")' for name in names)


def _to_group_norm(remedy: Remedy) -> str:
    given = ["model", *(["x"] if remedy.data else [])]
    groups = [] if remedy.groups is None else [f"groups={remedy.groups}"]
    return f"model = bnfix.to_group_norm({', '.join([*given, *groups])})"


def _exchange(remedy: Remedy) -> str:
    places = ["gamma", "beta", "moving_mean", "moving_variance"]
    order = list(places)
    for ours, theirs in remedy.exchanged:
        here, there = places.index(ours), places.index(theirs)
        order[here], order[there] = order[there], order[here]
    letters = {"gamma": "g", "beta": "b", "moving_mean": "m", "moving_variance": "v"}
    back = ", ".join(letters[name] for name in order)
    return f"bn = {_layer(remedy)}; g, b, m, v = bn.get_weights(); bn.set_weights([{back}])"


_CODE: dict[Verb, Callable[[Remedy], str]] = {
    Verb.STRIP_TRAINING: _call,
    Verb.STRIP_AUGMENTATION: _call,
    Verb.FREEZE: _call,
    Verb.RECALIBRATE: lambda remedy: _call(remedy, "(x, y)" if remedy.labels else "x"),
    Verb.EXCHANGE: _exchange,
    Verb.TO_GROUP_NORM: _to_group_norm,
    Verb.COMPILE: lambda remedy: "model.compile_from_config(model.get_compile_config())",
    Verb.MAKE_PREDICT: lambda remedy: "model.make_predict_function(force=True)",
    Verb.RAISE_EPSILON: lambda remedy: f"{_layer(remedy)}.epsilon = 1e-3",
    Verb.ASK_LABELS: lambda remedy: (
        "print(bnfix.diagnose(model, (x, y)))  # the loss tells whether recalibrate helps"
    ),
}
