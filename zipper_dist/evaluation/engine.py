"""Runs attacks on blocks of examples: what is known is not done again, what is done is kept.

Everything that measures accuracy uses this engine: validation in training, the table at its end,
the ``evaluate`` command and :func:`zipper_dist.evaluation.report.evaluate_model`. Its work is a
generator that yields between the steps of an attack, so that other work can be done in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zipper_dist.accel.precision import Acceleration
from zipper_dist.attacks import Attack, Blocks, ExampleDraws
from zipper_dist.attacks.base import Task, advance
from zipper_dist.evaluation.attack_list import Measure
from zipper_dist.evaluation.network_views import Meter, NetworkViews
from zipper_dist.evaluation.outcomes import (
    BROKEN,
    ROBUST,
    UNKNOWN,
    BlockOutcome,
    OutcomeStore,
    address,
)


@dataclass(frozen=True, eq=False)
class Examples:
    """The evaluated images, whole on the device."""

    images: Tensor
    """(N, C, H, W): float32 in [0, 1], or uint8 from 0 to 255."""
    labels: Tensor
    """int64 (N,)."""
    numbers: Tensor | None = None
    """Numbers of the images in the whole set that they are from, which decide their random draws:
    int64 (N,) on the CPU; None: 0, 1, 2 …"""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Images, as float32 in the plain memory layout, and labels of some examples."""
        if isinstance(places, Tensor):
            places = places.to(self.labels.device)
        images = self.images[places]
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return images.contiguous(), self.labels[places]


Tick = Callable[[int], None]
"""Takes the cost of some work [forward passes × images]; may raise to stop the evaluation."""

Found = dict[str, dict[str, Any]]
"""What one rank knows, as JSON: by address, then by block, states and what they took."""


@dataclass
class Engine:
    """The blocks of one rank, attacked in order."""

    examples: Examples
    views: NetworkViews
    store: OutcomeStore
    blocks: Blocks
    """The blocks of all examples."""
    mine: Sequence[int]
    """Numbers of the blocks of this rank."""
    batch_size: int = 128
    """Images at a time; changes no outcome."""
    seed: int = 0
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What decides outcomes beside the attack, the seed and the blocks."""
    keep_images: bool = False
    """Keep the adversarial images of every block, not only of the first."""
    tick: Tick = lambda cost: None
    """Called at every use of a network."""
    _addresses: dict[Attack | None, str] = field(default_factory=dict)

    def run(self, wanted: Sequence[Measure]) -> Iterator[None]:
        """Bring the outcomes of all that is wanted up to date, in small pieces of work."""
        yield from self.classify()
        for _, attack, before in stages(wanted):
            yield from self.attack(attack, before)

    def address(self, attack: Attack | None) -> str:
        """Where the outcomes of an attack (None: of no attack, clean images) are kept."""
        if attack not in self._addresses:
            facts = {**self.identity, "seed": self.seed, "blocks": self.blocks.size}
            facts["attack"] = attack.settings if attack else "clean"
            name = attack.name if attack else "clean"
            self._addresses[attack] = f"{name}-{address(facts)}"
        return self._addresses[attack]

    def outcome(self, attack: Attack | None, block: int) -> BlockOutcome:
        """What is known of a block under an attack."""
        return self.store.load(self.address(attack), block, self.blocks.size_of(block))

    def found(self, attacks: Sequence[Attack]) -> Found:
        """What is known of this rank's blocks: clean, and under these attacks."""
        found: Found = {}
        for attack in (None, *attacks):
            of_blocks = found.setdefault(self.address(attack), {})
            for block in self.mine:
                outcome = self.outcome(attack, block)
                states = "".join(map(str, outcome.state.tolist()))
                of_blocks[str(block)] = {"state": states, "spent": outcome.spent}
        return found

    def classify(self) -> Iterator[None]:
        """Find out which examples are misclassified without any attack."""
        for block in self.mine:
            outcome = self.outcome(None, block)
            if (outcome.state == UNKNOWN).any():
                start = time.perf_counter()
                meter = Meter(self.views.exact, self.tick)
                x, y = self.examples.take(self.blocks.span(block))
                with Acceleration().arithmetic(), torch.no_grad():
                    logits = torch.cat([meter(part) for part in torch.split(x, self.batch_size)])
                right = (logits.argmax(1) == y).cpu()
                outcome.state = torch.where(right, ROBUST, BROKEN).byte()
                outcome.add_spent(_spent(start, [meter]))
                self.store.save(self.address(None), block, outcome)
                yield

    def wanted(self, attack: Attack, before: Sequence[Attack], block: int) -> Tensor:
        """Rows of a block to attack: right when clean, and not broken by an attack ``before``."""
        standing = self.outcome(None, block).state == ROBUST
        for earlier in before:
            standing = standing & (self.outcome(earlier, block).state != BROKEN)
        return self.outcome(attack, block).lacks(standing, self.keep_images or block == 0)

    def cost_left(self, attack: Attack, before: Sequence[Attack]) -> int:
        """What :meth:`attack` would take at most [forward passes × images]."""
        return attack.cost * sum(int(self.wanted(attack, before, b).sum()) for b in self.mine)

    def attack(self, attack: Attack, before: Sequence[Attack] = ()) -> Iterator[None]:
        """Bring the outcomes of an attack up to date, except for examples broken ``before``."""
        for group in self._groups(attack, before):
            meters: list[Meter] = []
            seconds = 0.0
            images, broken = [], []
            for places in torch.split(torch.cat(list(group.values())), self.batch_size):
                task, x, y = self._task(attack, places, meters)
                steps = task.steps(x, y)
                while True:
                    start = time.perf_counter()
                    # The figures are fp32 figures. Nothing of it is left at the yield.
                    with Acceleration().arithmetic():
                        end = advance(steps)
                    seconds += time.perf_counter() - start
                    if end is not None:
                        break
                    yield
                images.append(end[0])
                broken.append(end[1])
            spent = _spent(0.0, meters) | {"seconds": seconds}
            self._keep(attack, group, (torch.cat(images), torch.cat(broken)), spent)
            yield

    def _task(
        self, attack: Attack, places: Tensor, meters: list[Meter]
    ) -> tuple[Task, Tensor, Tensor]:
        numbers = places if self.examples.numbers is None else self.examples.numbers[places]
        draws = ExampleDraws(self.seed, attack.name, self.blocks, places, numbers)
        views = [v for v in (self.views.screening, self.views.attacked) if v is not None]
        verdict, *attacked = [Meter(view, self.tick) for view in (self.views.exact, *views)]
        meters += [verdict, *attacked]
        x, y = self.examples.take(places)
        return Task(attack, attacked, verdict, draws), x, y

    def _groups(self, attack: Attack, before: Sequence[Attack]) -> Iterator[dict[int, Tensor]]:
        """Examples to attack, by block: as many whole blocks at a time as fit in a batch."""
        group: dict[int, Tensor] = {}
        for block in self.mine:
            rows = self.wanted(attack, before, block).nonzero().flatten()
            if len(rows) == 0:
                continue
            held = sum(len(places) for places in group.values())
            full = held + len(rows) > self.batch_size
            if group and (full or attack.one_block):
                yield group
                group = {}
            group[block] = rows + block * self.blocks.size
        if group:
            yield group

    def _keep(
        self, attack: Attack, group: dict[int, Tensor], result: tuple[Tensor, Tensor],
        spent: dict[str, float],
    ) -> None:  # fmt: skip
        images, broken = result
        total, at = len(broken), 0
        for block, places in group.items():
            outcome, n = self.outcome(attack, block), len(places)
            rows = places - block * self.blocks.size
            outcome.state[rows] = torch.where(broken[at : at + n], BROKEN, ROBUST).byte()
            if self.keep_images or block == 0:
                outcome.images = outcome.images or {}
                for i in broken[at : at + n].nonzero().flatten().tolist():
                    outcome.images[int(rows[i])] = images[at + i].cpu().contiguous()
            outcome.add_spent({name: amount * n / total for name, amount in spent.items()})
            self.store.save(self.address(attack), block, outcome)
            at += n


def _spent(start: float, meters: Sequence[Meter]) -> dict[str, float]:
    return {
        "seconds": time.perf_counter() - start,
        "forwards": sum(meter.forwards for meter in meters),
        "gradients": sum(meter.gradients for meter in meters),
    }


def stages(wanted: Sequence[Measure]) -> list[tuple[str, Attack, list[Attack]]]:
    """The attacks to run for what is wanted: (label, attack, the attacks before it).

    Measures of one attack come first, so that an ensemble finds their outcomes. The attacks of an
    ensemble, under one threat model, are run in turn on what the ones before left.
    """
    found, done = [], set()
    for measure in sorted(wanted, key=lambda measure: len(measure.parts)):
        before: list[Attack] = []
        for attack in measure.parts:
            same = [a for a in before if (a.norm, a.eps) == (attack.norm, attack.eps)]
            if (attack, tuple(same)) not in done:
                found.append((measure.label, attack, same))
            done.add((attack, tuple(same)))
            before.append(attack)
    return found
