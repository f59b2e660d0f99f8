"""Variables in which compiled code has left a placeholder where their value was.

On JAX `jax.jit(model)` of a model that updates statistics, as `training=True` in a call has it do,
assigns to its variables what stands for values while the code is traced, and nothing puts those
back: the statistics are lost, and whoever reads them meets an error of JAX's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfix.errors import ModelError

if TYPE_CHECKING:
    from bnfix.adapters.base import Adapter


def check_values(adapter: Adapter, model: Any) -> None:
    """Refuse a model of which a variable has no value any more.

    Raises:
        ModelError: Says which variables, and how to get them back.
    """
    # What is stored, rather than what a variable is worth within code that is being traced.
    lost = [
        variable
        for variable in adapter.variables(model)
        if adapter.is_traced(getattr(variable, "_value", None))
    ]
    if not lost:
        return
    named = ", ".join(variable.path for variable in lost[:_LISTED])
    more = f" and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
    raise ModelError(
        f"{model.name} has lost the values of {named}{more}: compiled code that updates them, as "
        "jax.jit(model) with a BatchNormalization in training mode, has left its placeholders "
        "there. Load the weights again; or assign 0 to each such moving_mean, 1 to each "
        "moving_variance, and call bnfix.recalibrate(model, ds). Compile model.stateless_call "
        "instead, or call bnfix.freeze(model) before.",
        path=lost[0].path.rpartition("/")[0],
    )


_LISTED = 4
