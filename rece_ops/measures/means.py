"""The mean of some numbers, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_with_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error, s / √n with s² = Σ(x − mean)² / (n − 1).

    Returns:
        The mean is NaN of no values, the error None of fewer than two.
    """
    count = len(values)
    if not count:
        return math.nan, None
    mean = math.fsum(values) / count
    if count == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (count - 1) / count)
