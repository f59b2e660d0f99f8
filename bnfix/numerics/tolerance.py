"""How far two correct evaluations of the same network may lie apart.

A value that went through `depth` layers carries about `depth` rounding errors. They behave like
independent steps of at most half a unit in the last place each (Higham & Mary 2019, "A new approach
to probabilistic rounding error analysis": the constant grows with the square root of the number of
operations), and every layer may amplify what it is given:

    tolerance = SAFETY * sqrt(depth) * unit(dtype) * scale

`scale` is the largest magnitude of the output.
"""

from __future__ import annotations

import math
import re

#: Distance from 1 to the next number.
UNIT = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
    "tensorfloat32": 2.0**-10,  # float32 as some GPUs multiply it unless told not to
}

#: Room for amplification within a layer: dot products over up to ~4,096 terms, whose rounding
#: errors add up like their square root.
SAFETY = 64.0


def rounding(dtype: str, depth: int, scale: float) -> float:
    """Largest difference that rounding in `dtype` explains after `depth` layers."""
    return SAFETY * math.sqrt(max(depth, 1)) * _unit(dtype) * scale


#: How much worse one evaluation of a network may be off than another one in the same arithmetic:
#: their errors are independent and of one size, and the largest of many lies within a few of these.
AMPLE = 8.0
#: As `SAFETY`, for numbers of few digits, in which that would forgive anything.
_SAFETY_COARSE = 4.0


def is_coarse(dtype: str) -> bool:
    """Whether numbers of `dtype` have so few digits that rounding hides anything."""
    return dtype in ("float16", "bfloat16", "tensorfloat32")


def carried_over(noise: float, seen: str, dtype: str) -> float:
    """What rounding in `dtype` may come to in a network where in `seen` it came to `noise`.

    To first order rounding errors reach the output multiplied by what the network makes of small
    changes, whatever their size.
    """
    return AMPLE * noise * _unit(dtype) / _unit(seen)


def floor(dtype: str) -> float:
    """The least that two evaluations in `dtype` may differ by, relative to the scale of outputs."""
    return (_SAFETY_COARSE if is_coarse(dtype) else SAFETY) * _unit(dtype)


def believable(dtype: str) -> float:
    """The most that rounding in `dtype` can have come to: a quarter of the digits must be right."""
    return _unit(dtype) ** 0.25


def _unit(dtype: str) -> float:
    return UNIT.get(dtype, UNIT["float32"])


#: Largest finite number.
_LARGEST = {"float64": 1.797e308, "float32": 3.4028e38, "float16": 65504.0, "bfloat16": 3.3895e38}


def largest_finite(dtype: str) -> float:
    """The largest finite number of `dtype`."""
    return _LARGEST.get(dtype, _LARGEST["float32"])


def width(dtype: str) -> int:
    """Bytes of one number of `dtype`; 8 where it does not say, as for strings."""
    bits = re.search(r"\d+", dtype)  # the first number: "float8_e4m3fn" tells more
    if bits is None:
        return 1 if dtype == "bool" else 8
    return max(int(bits[0]) // 8, 1)


# --- what counts as the same, and what as another -------------------------------------------------

#: In standard deviations, by the dtype of a network: statistics that moved less since the pass
#: before are final. That is 84 units in the last place of float32, and one of float16.
_FINAL = {"float64": 1e-11, "float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-3}


def final(dtype: str) -> float:
    """How far statistics may move between two passes that agree, in standard deviations."""
    return _FINAL.get(dtype, _FINAL["float32"])


#: Times what `rounding` explains: a layer that is handed rounding errors may amplify them, but not
#: as much.
AMPLIFIED = 100.0

#: Standard errors above which chance brings a mean in one of a thousand cases: the quantile of the
#: normal distribution for 0.001 on one side.
SIGNIFICANT = 3.1
#: Part of a loss that matters, if it is no chance.
MATTERS = 0.005
#: Part of a loss that is noticed without asking whether it is chance.
NOTICEABLE = 0.02
#: A loss below it is none: eight units in the last place of a float32 loss of 1.
LEAST_LOSS = 1e-6

#: Distance in sigma beyond which all statistics are not those of the data. Well-trained networks
#: stay below 0.1; a sample of n rows adds 1 / sqrt(n), since values within a row are alike.
SHIFTED = 0.2
#: Distance in sigma beyond which one layer is suspected of a reason of its own.
SUSPICIOUS = 0.5
#: A better explanation must leave less than this share of the distance.
SMALL_SHARE = 0.25
#: Share of a shared layer's variance that lies between its calls: two calls have it whose means
#: are 1.3 standard deviations apart, since (1.3 / 2)^2 / (1 + (1.3 / 2)^2) = 0.3.
BETWEEN = 0.3
