"""Which causes does a check tell apart?  A new one is listed here, and worded in `causes.py`."""

from __future__ import annotations

from bnfix.report import Word


class Cause(Word):
    """What is wrong at inference, in the order in which it is told.

    What makes rows depend on each other comes first, by the order in which the layers run.

    Attributes:
        rank: Equal ones are told in the order in which the layers run.
        in_training: Whether it is a fault in training as well; that weights change there, or that
            chance plays, is not.
        is_fault: Whether there is anything to mend.
    """

    rank: int
    in_training: bool
    is_fault: bool

    def __new__(
        cls, name: str, rank: int, in_training: bool = False, is_fault: bool = True
    ) -> Cause:
        cause = str.__new__(cls, name)
        cause._value_ = name
        cause.rank, cause.in_training, cause.is_fault = rank, in_training, is_fault
        return cause

    #: A BatchNormalization normalizes by the batch at hand.
    BATCH_STATISTICS = "batch_statistics", 0, True
    #: Another layer mixes rows.
    BATCH_COUPLING = "batch_coupling", 0, True
    #: `predict` was compiled under other flags.
    STALE_FUNCTION = "stale_function", 1
    #: A stateful recurrent layer, or another that counts on.
    STATE = "state", 2
    #: Weights are overwritten by each call.
    INFERENCE_CHANGES_WEIGHTS = "inference_changes_weights", 3
    #: Two equal calls give different answers.
    RANDOMNESS = "randomness", 4
    #: Infinities or NaN come of finite numbers.
    NONFINITE = "nonfinite", 5, True
    #: The length of the batch matters, the neighbours do not.
    BATCH_SIZE = "batch_size", 6
    #: A layer is in training mode by its own default wherever nobody says `training`.
    TRAINING_BY_DEFAULT = "training_by_default", 7
    #: Compiled code computes something else than the layers do one by one.
    MISCOMPILED = "miscompiled", 8
    #: Ways of calling the model give different answers.
    ENTRY_POINTS_DISAGREE = "entry_points_disagree", 8
    #: No more than rounding, which leaves a model ok.
    ROUNDING = "rounding", 9, True, False
