"""A range of iterations, as an option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from zipper_dist.config.schedules import one_word


@dataclass(frozen=True)
class IterationRange:
    """The iterations ``first`` … ``last`` of a run: ``100:120``; ``none``, as 0 … 0: none."""

    first: int = 0
    last: int = 0

    @staticmethod
    def parse(text: str) -> IterationRange:
        """Read a range; raises ValueError if ``text`` is none."""
        if text == "none":
            return IterationRange()
        first, _, last = text.partition(":")
        numbers = [int(part) for part in (first, last) if part.isascii() and part.isdigit()]
        if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1]:
            raise ValueError(
                f"{text!r} is not a range of iterations: give FIRST:LAST, such as 100:120, the "
                "first 1 or more and the last not below it, or none"
            )
        return IterationRange(*numbers)

    def __str__(self) -> str:
        return f"{self.first}:{self.last}" if self.last else "none"

    def problem(self, option: str, total: int) -> str | None:
        """What is wrong with the value of ``option`` for a run of ``total`` iterations; or None."""
        if self.last <= total:
            return None
        return f"{option} {self}: the run has {total} iterations: give FIRST:LAST within 1:{total}"


IterationRangeOption = Annotated[
    IterationRange, one_word(IterationRange, IterationRange.parse, "FIRST:LAST|none")
]
