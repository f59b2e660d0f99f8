"""What mends a fault of this very model?"""

from __future__ import annotations

from functools import cached_property

from bnfix.adapters.reading import readable
from bnfix.adapters.subject import Subject
from bnfix.checks.causes import Cure, random_in_training
from bnfix.graph.graph import Call
from bnfix.remedy import Remedy, Verb

#: What frees training from the batch.
NO_BATCH = Cure(Remedy(Verb.TO_GROUP_NORM, data=True, groups=None), "and train on")


class Cures:
    """What to do about faults of `model`, by what its calls say."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.adapter, self.model = subject

    def of_mode(self, path: str) -> Cure:
        """About a layer that is not in inference mode."""
        if self.is_baked(path):
            return Cure(Remedy(Verb.STRIP_TRAINING), "or in place: bnfix.freeze(model)")
        if self._is_norm(path):
            return Cure(
                Remedy(Verb.FREEZE, (path,)),
                "which ends its training; its calls are in code that cannot be rewritten",
            )
        return Cure(advice=f"let {path} do the same under training=None as under training=False")

    def of_values(self, path: str) -> Cure:
        """About a layer that makes numbers infinite."""
        if self._is_norm(path):
            return Cure(Remedy(Verb.RECALIBRATE, (path,)))
        return Cure(advice=f"look at the weights of {path}")

    def of_chance(self, path: str) -> Cure:
        """About a layer that is random."""
        if not self.is_baked(path):
            return random_in_training(path)
        strip = Remedy(Verb.STRIP_TRAINING, (path,), optional=True)
        return Cure(strip, "unless it is wanted, as for Monte Carlo dropout")

    def of_default(self, path: str, *, in_predict: bool) -> Cure:
        """About a layer in training mode by its own default."""
        kind = type(self.model).__name__
        if self.adapter.trains_unless_told():
            phase = f"{self.adapter.keras.__name__}.backend.set_learning_phase(0)"
            return Cure(advice=f"call {phase}, or model(x, training=False) as predict does")
        if in_predict:
            advice = f"or let the call of {kind} take training=None, which predict then passes on"
        elif path == self.model.name:
            return Cure(
                advice="call model(x, training=False) as predict does, or give training the "
                f"default None in the call of {kind}"
            )
        else:
            advice = "or call model(x, training=False)"
        if any(call.trains_by_default for call in self._calls):
            return Cure(Remedy(Verb.STRIP_AUGMENTATION), advice)
        return Cure(advice=advice.removeprefix("or "))

    def leading(self, path: str) -> list[str]:
        """Layers in training mode by default that run before the layer at `path`.

        Code that makes a layer anew in each call can be read, but not watched.
        """
        last = max((call.index for call in self._calls if call.path == path), default=-1)
        spreads = self.adapter.default_training_spreads
        early = [call.path for call in self._calls if call.index < last and call.trains_by_default]
        return list(dict.fromkeys(early)) if spreads else []

    def is_baked(self, path: str) -> bool:
        """Whether `training=True` is written into the call at `path` or into one around it."""
        return any(
            path == call.path or path.startswith(f"{call.path}/")
            for call in self._calls
            if call.training
        )

    def _is_norm(self, path: str) -> bool:
        return any(path == norm for norm, _ in self.adapter.batch_norms(self.model))

    @cached_property
    def _calls(self) -> tuple[Call, ...]:
        reading = readable(self.subject)
        return () if reading is None else reading.graph.calls
