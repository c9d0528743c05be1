"""Tuning TRADES until its clean accuracy is that of Zipper.

The larger β, the more robust and the less accurate TRADES is. Looked for is the largest robustness
that it has at Zipper's clean accuracy, so the choice is the one that is best for TRADES.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

STRIDE = 3.0
SMALLEST_BETA, LARGEST_BETA = 0.01, 100.0


@dataclass(frozen=True)
class Accuracy:
    """What a run reached [per cent]."""

    clean: float
    robust: float


@dataclass(frozen=True)
class Match:
    """How TRADES was tuned, by seed 0.

    Attributes:
        beta: the chosen β.
        clean: clean accuracy of TRADES with it [per cent].
        target: clean accuracy of Zipper [per cent].
        slack: differences of clean accuracy that count as none [percentage points].
    """

    beta: float
    clean: float
    target: float
    slack: float


def tolerance(images: int) -> float:
    """Clean accuracies so close count as equal [percentage points]: a quarter of a point, or one
    image of the test set where that is more."""
    return max(0.25, 100 / images)


def matched(tried: Mapping[float, Accuracy], target: float, slack: float) -> float:
    """The β that stands for TRADES at clean accuracy ``target`` [per cent].

    Of those that reach ``target`` less ``slack``, the most robust one; where none does, the most
    accurate. ``tried`` must not be empty.
    """
    reaching = {beta: a for beta, a in tried.items() if a.clean >= target - slack}
    if reaching:
        return max(reaching, key=lambda beta: (reaching[beta].robust, reaching[beta].clean))
    return max(tried, key=lambda beta: (tried[beta].clean, tried[beta].robust))


def next_beta(tried: Mapping[float, Accuracy], target: float, slack: float) -> float | None:
    """The β to try next, or None where nothing more is to be learnt.

    Between the largest β that is accurate enough and the smallest that is not, their geometric
    mean; beyond the ends of what was tried, a stride further, if that has paid so far.
    """
    enough = [beta for beta, a in tried.items() if a.clean >= target - slack]
    short = [beta for beta in tried if beta not in enough]
    chosen = matched(tried, target, slack)
    if not short:
        # Further only if a larger β has been more robust so far.
        following = max(enough) * STRIDE if chosen == max(enough) else None
    elif not enough:
        following = min(short) / STRIDE if chosen == min(short) else None
    else:
        low = max(enough)
        above = [beta for beta in short if beta > low]
        close = abs(tried[low].clean - target) <= slack
        following = None if close or not above else math.sqrt(low * min(above))
    if following is None:
        return None
    following = float(f"{following:.2g}")
    inside = SMALLEST_BETA <= following <= LARGEST_BETA
    return following if inside and following not in tried else None
