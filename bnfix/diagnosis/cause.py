"""Which causes does a diagnosis tell apart?  A new one is listed here, and found by one rule."""

from __future__ import annotations

from bnfix.report import Word


class Cause(Word):
    """What may be wrong with a BatchNormalization, in the order in which it is told.

    What stands in the way of everything else comes first; among equals the order is that of paths.

    Attributes:
        spoils: Whether stored statistics that are off need no further explanation.
        decided_by: Names of measured causes that settle the same question for a layer.
        spreads: Whether it spoils what reaches the layers behind, so that their statistics, off or
            not, tell nothing.
    """

    spoils: bool
    decided_by: frozenset[str]
    spreads: bool

    def __new__(
        cls, name: str, spoils: bool = True, decided_by: str = "", spreads: bool = False
    ) -> Cause:
        cause = str.__new__(cls, name)
        cause._value_ = name
        cause.spoils, cause.decided_by = spoils, frozenset(decided_by.split())
        cause.spreads = spreads
        return cause

    @property
    def rank(self) -> int:
        return list(type(self)).index(self)

    NONFINITE = "nonfinite"
    NEGATIVE_VARIANCE = "negative_variance", False, "exchanged"
    MOMENTUM = "momentum"
    BAKED_TRAINING = "baked_training", False
    INSTANCE_STATISTICS = "instance_statistics"
    EXCHANGED = "exchanged", True, "", True
    DEVIATIONS_STORED = "deviations_stored"
    OF_ANOTHER_LAYER = "of_another_layer"
    ZERO_VARIANCE = "zero_variance"
    BATCH_OF_ONE = "batch_of_one", True, "", True
    OTHER_UNITS = "other_units"
    OUT_OF_STEP = "out_of_step"
    SHARED_DOMAINS = "shared_domains"
    FROZEN_UNTRAINED = "frozen_untrained", False, "frozen_untrained self_consistent"
    NEVER_UPDATED = "never_updated", False, "never_updated self_consistent"
    UNCONVERGED = "unconverged", False, "unconverged shifted other_units"
    SHIFTED = "shifted"
    HUGE_GAIN = "huge_gain"
    WRONG_AXIS = "wrong_axis"
    BAKED_INFERENCE = "baked_inference"
    STALE_COMPILE = "stale_compile"
    TRAINING_BY_DEFAULT = "training_by_default"
    SELF_CONSISTENT = "self_consistent"
    UNTRAINED = "untrained", True, "frozen_untrained self_consistent"
    TINY_VARIANCE = "tiny_variance"
    SYNCHRONIZED = "synchronized"
    TOO_FEW_VALUES = "too_few_values"
    STAYS_UNFOLDED = "stays_unfolded"
