"""How far a share that was counted may be from the true one."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of ``correct`` out of ``n``, in per cent: the Wilson score interval.

    Unlike the normal approximation it stays inside 0 … 100 and holds near the ends.
    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    Raises ValueError unless 0 ≤ correct ≤ n and n ≥ 1.
    """
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"{correct} of {n} is not a share")
    share, z2 = correct / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half))
