"""bnfix itself."""

from __future__ import annotations

from typing import Any

from . import Folded, of_keras

TITLE = "bnfix"
ENVIRONMENT = None
FRAMEWORKS = ("keras", "tf_keras")
PACKAGES = ()
VERSIONS = ("bnfix", "keras", "tf_keras", "tensorflow")
NOTE = (
    "`bnfix.fold(model, return_report=True)`; what stays is told with its reason in "
    "`report.declined`."
)


def fold(model: Any, inputs: Any) -> Folded:
    import bnfix

    folded, report = bnfix.fold(model, return_report=True)
    return of_keras(folded, [declined.detail for declined in report.declined if declined.detail])
