"""Threat models: what an attacker may do to an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Annotated, Literal

import tyro

from zipper_dist.config.schedules import one_word
from zipper_dist.errors import UserError

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
        norm, _, radius = text.partition(":")
        try:
            eps = float(Fraction(radius)) if "/" in radius else float(radius)
        except (ValueError, ArithmeticError):
            eps = math.nan
        if norm not in LARGEST or math.isnan(eps):
            wrong = f"{radius!r} is no radius" if norm in LARGEST else f"{norm!r} is no norm"
            wanted = "give linf:8/255 or l2:0.5, several with spaces between them"
            raise ValueError(f"{text!r} is not a threat model ({wrong}): {wanted}")
        return ThreatModel("linf" if norm == "linf" else "l2", eps)

    def __str__(self) -> str:
        return f"{self.norm}:{self.eps!r}"

    def short(self) -> str:
        """The threat model in the name of a figure: ``linf:0.3``."""
        return f"{self.norm}:{self.eps:.6g}"

    def words(self) -> str:
        """The threat model in a table: ``linf ε 0.0314``."""
        return f"{self.norm} ε {self.eps:.4g}"

    def default_step_size(self, steps: int) -> float:
        """2.5 ε / steps: enough to reach any point of the ball [1 = the full pixel range]."""
        return 2.5 * self.eps / steps

    def problems(self, said: str) -> Iterator[str]:
        """What is wrong with the radius, as a line that begins with what was ``said``: an option
        and its value."""
        if not 0 < self.eps <= LARGEST[self.norm]:
            wanted = f"a radius above 0 and up to {LARGEST[self.norm]:g}"
            yield f"{said}: give {wanted}, where 1 is the full pixel range"


def problems_of(threats: Sequence[ThreatModel], option: str) -> Iterator[str]:
    """What is wrong with the threat models of an option, each of which must be another one."""
    for threat in threats:
        yield from threat.problems(f"{option} {threat}")
    for first, second in combinations(threats, 2):
        if first.short() == second.short():  # so would be the names of their figures
            same = "the same" if first == second else "the same to six digits"
            yield f"{option} {first} {second}: {same}; give each threat model once"


def _read_option(text: str) -> ThreatModel:
    """As :meth:`ThreatModel.parse`, but an error ends the command in one line."""
    try:
        return ThreatModel.parse(text)
    except ValueError as error:
        raise UserError(f"--threats {error}") from None


ThreatOption = Annotated[ThreatModel, one_word(ThreatModel, ThreatModel.parse, "NORM:EPS")]
ThreatsOption = Annotated[
    tuple[Annotated[ThreatModel, one_word(ThreatModel, _read_option, "NORM:EPS")], ...],
    tyro.conf.arg(aliases=["--threat"]),
]
"""The option ``--threats`` of a command, which may be written ``--threat``."""
