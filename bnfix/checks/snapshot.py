"""What a model remembers between calls, and which of it a call has changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from bnfix.adapters.subject import Subject


class Memory:
    """What a model remembers at one moment: weights, recurrent states, seeds."""

    def __init__(self, subject: Subject) -> None:
        self.adapter, self.model = adapter, model = subject
        owners = {id(weight): model.name for weight in adapter.weights(model)}
        for path, layer in adapter.tree(model):  # what is inside comes later
            owners.update({id(weight): path for weight in adapter.weights(layer)})
        weights = [(owners[id(weight)], weight) for weight in adapter.weights(model)]
        seeds = [variable for variable in adapter.variables(model) if id(variable) not in owners]
        self._weights = self._held([*weights, *adapter.remembered(model)])
        self._states = self._held(adapter.carried(model))
        self._seeds = self._held([("", seed) for seed in seeds])

    @property
    def changed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Paths of the layers of which a weight is no longer what it was; the same of states."""
        return self._differing(self._weights), self._differing(self._states)

    def put_back(self, *, seeds: bool = True) -> None:
        for _, variable, value in (*self._weights, *self._states, *(self._seeds if seeds else ())):
            self.adapter.put_value(variable, value)

    def disturb(self, unit: float) -> None:
        """Move every floating-point weight by `unit` of itself, up or down by chance."""
        generator = np.random.default_rng(0)
        for _, variable, value in self._weights:
            if np.issubdtype(value.dtype, np.floating):
                signs = generator.choice((-1.0, 1.0), value.shape)
                variable.assign((value * (1.0 + unit * signs)).astype(value.dtype))

    def _held(self, variables: list[tuple[str, Any]]) -> list[tuple[str, Any, Any]]:
        return [(path, variable, self.adapter.copy_value(variable)) for path, variable in variables]

    def _differing(self, held: list[tuple[str, Any, Any]]) -> tuple[str, ...]:
        has = self.adapter.has_value
        differing = [path for path, variable, value in held if not has(variable, value)]
        return tuple(dict.fromkeys(differing))
