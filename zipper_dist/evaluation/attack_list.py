"""What is measured: the attacks of ``--attacks``, under each threat model and their union."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zipper_dist.attacks import ATTACKS, Attack, Iterated
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError

STANDARD = (
    "clean", "fgsm", "pgd-20", "pgd-100", "mim", "cw", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t",
    "square", "aa",
)  # fmt: skip
"""What ``standard`` stands for: the attacks of the published tables."""

UNION = "@union"
"""Ending of the name of what an example withstands under each of several threat models."""


@dataclass(frozen=True)
class Measure:
    """A line of the table, made of attacks; an example is robust if it is classified right when
    clean and under each of them."""

    label: str
    parts: tuple[Attack, ...] = ()
    """What it is made of; none: clean images."""
    made_of: tuple[str, ...] = ()
    """Names of the attacks that it is made of, where it is not one of its own."""

    @staticmethod
    def of(label: str, attack: Attack) -> Measure:
        """The measure of one attack."""
        names = () if attack.parts == (attack,) else tuple(part.name for part in attack.parts)
        return Measure(label, attack.parts, names)

    def as_json(self) -> dict[str, Any]:
        """The settings of the attack, for the results."""
        if len(self.parts) == 1 and not self.made_of:
            return dict(self.parts[0].settings)
        return {"attacks": list(self.made_of)}


def expand(names: Sequence[str]) -> list[str]:
    """``--attacks`` with ``standard`` spelled out, commas taken for spaces, nothing twice; raises
    UserError for an unknown attack, and for none."""
    given = " ".join(names).replace(",", " ").split()
    spelled = [n for name in given for n in (STANDARD if name == "standard" else (name,))]
    if not spelled:
        raise UserError("--attacks: give one attack or more, such as clean pgd-20 aa")
    for name in spelled:
        if name != "clean":
            attack_named(name, ThreatModel())
    return list(dict.fromkeys(spelled))


def attack_named(
    name: str, threat: ThreatModel, step_size: float | None = None, restarts: int = 1
) -> Attack:
    """The attack of this name under a threat model; ``pgd-50`` is ``pgd`` with 50 steps. Raises
    UserError for an unknown name, and for something from outside that is no attack."""
    family, steps = name, None
    numbered = re.fullmatch(r"(\w+)-([1-9]\d*)", name)
    if numbered and _has_steps(numbered[1]):
        family, steps = numbered[1], int(numbered[2])
    if family not in ATTACKS and ":" not in family:
        known = " ".join(f"{n}-N" if _has_steps(n) else n for n in ATTACKS)
        raise UserError(
            f"--attacks {name}: unknown attack; choose from clean {known} standard (N: a number "
            "of steps, as in pgd-20), or give package.module:Class or path/to/file.py:Class"
        )
    kind = ATTACKS.find(family, "--attacks")
    if not (isinstance(kind, type) and issubclass(kind, Attack)):
        raise UserError(f"--attacks {name}: not a class of attacks (zipper_dist.attacks.Attack)")
    return kind.under(threat, steps=steps, step_size=step_size, restarts=restarts)


def _has_steps(family: str) -> bool:
    return family in ATTACKS and issubclass(ATTACKS[family], Iterated)


def measures(
    names: Sequence[str | Attack], threats: Sequence[ThreatModel], step_size: float | None = None,
    restarts: int = 1,
) -> list[Measure]:  # fmt: skip
    """Each attack under each threat model and, where there are several, under their union; an
    attack that is given as an object has its threat model already."""
    wanted: list[Measure] = []
    for name in names:
        if not isinstance(name, str):
            wanted.append(Measure.of(name.name, name))
        elif name == "clean":
            wanted.append(Measure(name))
        elif len(threats) == 1:
            wanted.append(Measure.of(name, attack_named(name, threats[0], step_size, restarts)))
        else:
            named = [(t.short(), attack_named(name, t, step_size, restarts)) for t in threats]
            each = [Measure.of(f"{name}@{threat}", attack) for threat, attack in named]
            parts = tuple(part for measure in each for part in measure.parts)
            labels = tuple(measure.label for measure in each)
            wanted += [*each, Measure(f"{name}{UNION}", parts, labels)]
    return wanted


def with_worst(wanted: Sequence[Measure]) -> list[Measure]:
    """The measures and, where several attacks have unions, what withstands all of these."""
    unions = [measure for measure in wanted if measure.label.endswith(UNION)]
    parts = tuple(distinct_parts(unions))
    worst = Measure(f"all{UNION}", parts, tuple(measure.label for measure in unions))
    return [*wanted, *([worst] if len(unions) > 1 else [])]


def distinct_parts(wanted: Sequence[Measure]) -> list[Attack]:
    """The attacks that the measures are made of, each once."""
    return list(dict.fromkeys(part for measure in wanted for part in measure.parts))
