"""Threat models: what an attacker may do to an image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

from zipper_dist.config.schedules import one_word

Norm = Literal["linf", "l2"]
LARGEST = {"linf": 1.0, "l2": 1e3}  # radius [1 = the full pixel range]


@dataclass(frozen=True)
class ThreatModel:
    """All perturbations up to ``eps`` [1 = the full pixel range]; ``linf:8/255``, ``l2:0.5``."""

    norm: Norm = "linf"
    eps: float = 8 / 255

    @staticmethod
    def parse(text: str) -> ThreatModel:
        """Read a threat model; raises ValueError if ``text`` is none."""
        norm, colon, radius = text.partition(":")
        try:
            eps = float(Fraction(radius)) if "/" in radius else float(radius)
        except (ValueError, ArithmeticError):
            eps = math.nan
        if norm not in LARGEST or not colon or math.isnan(eps):
            raise ValueError(f"{text!r} is not a threat model: give linf:8/255 or l2:0.5")
        return ThreatModel("linf" if norm == "linf" else "l2", eps)

    def __str__(self) -> str:
        return f"{self.norm}:{self.eps!r}"

    def words(self) -> str:
        """The threat model in a table: ``linf ε 0.0314``."""
        return f"{self.norm} ε {self.eps:.4g}"

    def default_step_size(self, steps: int) -> float:
        """2.5 ε / steps: enough to reach any point of the ball [1 = the full pixel range]."""
        return 2.5 * self.eps / steps

    def problems(self, option: str) -> Iterator[str]:
        """What is wrong with the radius, as a line about ``option``."""
        if not 0 < self.eps <= LARGEST[self.norm]:
            wanted = f"a radius above 0 and up to {LARGEST[self.norm]:g}"
            yield f"{option} {self.eps}: give {wanted}, where 1 is the full pixel range"


ThreatOption = Annotated[ThreatModel, one_word(ThreatModel, ThreatModel.parse, "NORM:EPS")]
