"""One state of a model told from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.subject import Subject


def fingerprint(adapter: Adapter, variables: Iterable[Any]) -> str:
    """The same for the same values of `variables`, to the last bit, and for no others."""
    digest = hashlib.blake2b(digest_size=16)
    for variable in variables:
        value = adapter.copy_value(variable)
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def of_trained(subject: Subject) -> str:
    """Of all that training has made of the model but the statistics of its BatchNormalizations."""
    adapter, model = subject
    norms = [layer for _, layer in adapter.batch_norms(model)]
    own = {id(one) for layer in norms for one in weights.statistics(layer)}
    return fingerprint(adapter, (one for one in adapter.weights(model) if id(one) not in own))
