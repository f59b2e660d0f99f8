"""How well two models agree, and what of it a report has to tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """How well two models agree: largest difference over scale, and what is tolerated of it.

    Attributes:
        difference: Over all outputs and entry points, relative to the scale of the output.
        tolerance: What rounding explains.
        dtype: In which the algebra was compared.
        entry_points: Through which the new model was run.
        unproven: Outputs that no input at hand made finite and different from row to row.
        remarks: What else was seen, a sentence each.
    """

    difference: float
    tolerance: float
    dtype: str
    entry_points: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        through = f" of {_listed(self.entry_points)}" if self.entry_points else ""
        return (
            f"outputs{through} differ by {self.difference:.2g} of their scale in {self.dtype} "
            f"(tolerance {self.tolerance:.2g})"
        )

    @property
    def caveats(self) -> tuple[str, ...]:
        """What users should know besides that the models agree."""
        if not self.unproven:
            return self.remarks
        return (
            f"not proven for {_listed(self.unproven)}: no input at hand gives finite numbers there "
            "that differ from row to row. Pass inputs that do as x=",
            *self.remarks,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """How well they agree, and the caveats."""
        return (str(self), *self.caveats)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
