"""What may an argument be? Each kind of number is asked for here, and refused as one error."""

from __future__ import annotations

import math
import re
from typing import Any

from bnfix.errors import OptionError


def whole(name: str, value: Any, *, at_least: int) -> int:
    """`value`, if it is a whole number of at least `at_least`.

    Raises:
        OptionError: It is not; the message begins with `name`.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < at_least:
        raise OptionError(f"{name} must be a whole number of at least {at_least}; got {value!r}.")
    return int(value)


def size(name: str, value: Any) -> int | None:
    """Bytes, from a number or from text such as "1 GiB" and "500MB"; None stays.

    Raises:
        OptionError: `value` is neither, or less than a byte.
    """
    if value is None:
        return None
    number = _of_text(value) if isinstance(value, str) else _number(value)
    if number is None or not 1 <= number < math.inf:
        raise OptionError(
            f'{name} must be a size such as "1 GiB" or "500MB", or a number of bytes such as '
            f"2**30; got {value!r}."
        )
    return int(number)


def _number(value: Any) -> float | None:
    return float(value) if hasattr(value, "__index__") or isinstance(value, float) else None


def _of_text(text: str) -> float | None:
    found = re.fullmatch(r"\s*([\d.e+]+)\s*(?:([kMGT])(i?)B|B)?\s*", text, re.IGNORECASE)
    try:
        number = float(found[1]) if found else None
    except ValueError:
        return None
    if found is None or number is None:
        return None
    step = 1024 if found[3] else 1000
    return number * step ** (" KMGT".index(found[2].upper()) if found[2] else 0)
