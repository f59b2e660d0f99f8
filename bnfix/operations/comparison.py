"""What a new model answers through each entry point, held against its source.

Each answer has to be that of the source, run uncompiled, or through the same entry point, to within
rounding. Where it is not, or where the model computes with so few digits that rounding hides
anything, both models are made in float64: that decides whether the algebra is right, and tells how
much of a difference the network makes of rounding. What then is left is compiled code that computes
something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, NoReturn

import numpy as np

from bnfix.adapters import overruling
from bnfix.adapters.reading import Reading
from bnfix.errors import UnsupportedModelError, VerificationError, gist
from bnfix.graph.edit import Edit
from bnfix.numerics.tolerance import believable, carried_over, floor, is_coarse, rounding
from bnfix.operations import reference
from bnfix.operations.agreement import Agreement
from bnfix.operations.reference import Outputs, Twins
from bnfix.operations.trial import Trial, gaps

#: What a model answers through each entry point, or what it raises there.
Answers = Mapping[str, Outputs | Exception]


class MiscompiledError(VerificationError):
    """Uncompiled the new model is right; compiled code computes something else."""


def dtype_of(reading: Reading) -> str:
    """The least precise one in which the model read computes."""
    return reading.adapter.rounding_dtype(reading.model)


class Comparison:
    """Of `changed`, made from the model read by `edit`, with what `trial` has of that."""

    def __init__(
        self,
        reading: Reading,
        edit: Edit,
        changed: Any,
        trial: Trial,
        operation: str,
        advance: Callable[[], Any],
        before: Callable[[], Answers] | None = None,
    ) -> None:
        self.reading, self.edit, self.operation = reading, edit, operation
        self.changed, self.trial, self.advance = changed, trial, advance
        self.depth = len(reading.graph)
        self.dtype = dtype_of(reading)
        self.answers = trial.answers(changed, advance)
        self._answers_before = before or partial(trial.answers, reading.model, apart=True)

    def run(self) -> Agreement:
        tolerance = rounding(self.dtype, self.depth, 1.0)
        worst = self._worst()
        if not worst <= tolerance:  # what was compiled for all together tells nothing against one
            self.answers = self.trial.answers(self.changed, self.advance, apart=True)
            worst = self._worst()
        if is_coarse(self.dtype) or not worst <= tolerance:
            return self._closely(tolerance)
        return self._agreement(worst, tolerance, self.dtype)

    def _worst(self) -> float:
        return max(self._gap(name, self.trial.wanted) for name in self.answers)

    def _closely(self, tolerance: float) -> Agreement:
        """With float64 as the judge."""
        pair = reference.twins(self.reading, self.edit, self.trial.inputs)
        if pair is None:
            return self._without_judge(tolerance)
        noises = self._noises(pair)
        if not noises:
            return self._without_judge(tolerance)

        def carried(dtype: str) -> float:
            return max(carried_over(noise, seen, dtype) for seen, noise in noises.items())

        apart = max(gaps(pair.new, pair.old), default=0.0)
        allowed = max(rounding(pair.dtype, self.depth, 1.0), carried(pair.dtype))
        if not apart <= allowed:
            self._refuse(Agreement(apart, allowed, pair.dtype))
        least = floor(self.dtype) if is_coarse(self.dtype) else tolerance
        remarks = self._compiled(max(least, carried(self.dtype)))
        return self._agreement(apart, allowed, pair.dtype, remarks)

    def _noises(self, pair: Twins) -> Mapping[str, float]:
        """What rounding comes to in the model given, by the dtype in which it was seen."""
        answers: dict[str, Outputs | None] = {self.dtype: self._calm()}
        if self.dtype == "float64":  # which as its own judge may see none of it, by chance
            answers["float32"] = reference.rounded(self.reading, self.trial.inputs)
        noises = {
            dtype: max(gaps(seen, pair.old), default=0.0)
            for dtype, seen in answers.items()
            if seen is not None
        }
        return {dtype: noise for dtype, noise in noises.items() if noise <= believable(dtype)}

    def _calm(self) -> Outputs:
        """What the model given answers where no `training=` is written into its calls."""
        baked = overruling.baked(self.reading)
        if baked <= self.edit.untrain:
            return self.trial.wanted
        return reference.call_by_call(self.reading, self.trial.inputs, baked)

    def _without_judge(self, tolerance: float) -> Agreement:
        if is_coarse(self.dtype):  # nothing tells how large rounding may be, but it is no excuse
            tolerance = believable(self.dtype)
        remarks = self._compiled(tolerance)
        worst = min(self._gap(name, self.trial.wanted) for name in self.answers)
        if is_coarse(self.dtype):
            said = f"not proven: its layers cannot be had with more digits than {self.dtype} has"
            return self._agreement(worst, tolerance, self.dtype, (said, *remarks))
        return self._agreement(worst, tolerance, self.dtype, remarks)

    def _compiled(self, tolerance: float) -> tuple[str, ...]:
        """What users should know of entry points that differ for no fault of the new model.

        Raises:
            VerificationError: One differs for which the new model is to blame.
        """
        remarks: list[str] = []
        for name, answer in self.answers.items():
            if self._gap(name, self.trial.wanted) <= tolerance:
                continue
            before = self.before[name]
            if isinstance(before, Exception):
                if not isinstance(answer, Exception):  # it can be run, but nothing tells its result
                    self._refuse_entry_point(name, tolerance)
                remarks.append(f"{name} raises, as it did before: {gist(answer)}")
            elif self._gap(name, before) <= tolerance:
                remarks += self._said_of_source(name, before, tolerance)
            elif name != "predict" and self._trains(tolerance):
                remarks.append(
                    f"{name} does not run in inference mode in the model given, for a "
                    "training=True in it, so it tells nothing; predict does"
                )
            elif self.trial.is_random(name):
                remarks.append(f"{name} is random in the model given, so it tells nothing")
            else:
                self._refuse_entry_point(name, tolerance)
        return tuple(remarks)

    def _trains(self, tolerance: float) -> bool:
        """Whether `call` of the model given, uncompiled as it is, is not what predict computes."""
        called, predicted = self.before["call"], self.before["predict"]
        if isinstance(called, Exception) or isinstance(predicted, Exception):
            return False
        wanted = self.trial.wanted
        apart = [max(gaps(each, wanted), default=0.0) for each in (called, predicted)]
        return apart[0] > tolerance >= apart[1]

    def _said_of_source(self, name: str, before: Outputs, tolerance: float) -> list[str]:
        """That its compiled code, `before`, is no better than that of the new model."""
        called = self.before["call"]
        if name == "call":
            return []
        if isinstance(called, list) and max(gaps(before, called), default=0.0) <= tolerance:
            return []
        return [
            f"{name} computes something else than uncompiled code, before as after; to mend that, "
            f"{self._uncompiling}"
        ]

    @cached_property
    def before(self) -> Answers:
        """What the model given answers through each entry point; asked where one is in doubt."""
        return self._answers_before()

    def _gap(self, name: str, wanted: Outputs) -> float:
        answer = self.answers[name]
        return np.inf if isinstance(answer, Exception) else max(gaps(answer, wanted), default=0.0)

    def _agreement(
        self, difference: float, tolerance: float, dtype: str, remarks: tuple[str, ...] = ()
    ) -> Agreement:
        points, unproven = tuple(self.answers), self.trial.unproven
        return Agreement(difference, tolerance, dtype, points, unproven, remarks)

    def _overrules(self) -> bool:
        """Whether a `training=True` in code that was opened means less in a graph."""
        left = overruling.baked(self.reading) - self.edit.untrain
        opened = bool(self.reading.opened and left)
        return opened and self.reading.adapter.predict_overrules_training

    @property
    def _uncompiling(self) -> str:
        return self.reading.adapter.backend.uncompiling

    # --- what is withheld ------------------------------------------------------------------------

    def _refuse(self, agreement: Agreement) -> NoReturn:
        raise VerificationError(
            f"{self.operation} gave a model that does not reproduce {self.reading.model.name}: "
            f"{agreement}. It was withheld. Please report this model; meanwhile bnfix.freeze keeps "
            "its BatchNormalization in inference mode."
        )

    def _refuse_entry_point(self, name: str, tolerance: float) -> NoReturn:
        answer, called = self.answers[name], self.answers["call"]
        seen = (
            f"raises {gist(answer)}"
            if isinstance(answer, Exception)
            else f"is off by {self._gap(name, self.trial.wanted):.2g} of the scale of its outputs "
            f"(tolerance {tolerance:.2g})"
        )
        if self._overrules():
            raise UnsupportedModelError(
                f"{self.operation} would have to open code of {self.reading.model.name} in which "
                f"training=True is written: as a graph, {self.reading.adapter.name} overrules that "
                "in predict, so that the answers would be others. Run bnfix.strip_training first."
            )
        right = not isinstance(called, Exception) and self._gap("call", self.trial.wanted) <= (
            tolerance
        )
        if name == "call" or not right:
            raise VerificationError(
                f"{self.operation} gave a model that does not reproduce {self.reading.model.name}: "
                f"{name} {seen}. It was withheld. Please report this model; meanwhile bnfix.freeze "
                "keeps its BatchNormalization in inference mode."
            )
        raise MiscompiledError(
            f"{self.operation} gave a model whose compiled code computes something else than its "
            f"uncompiled code: {name} {seen}, though call is right. It was withheld. To mend that, "
            f"{self._uncompiling}."
        )
