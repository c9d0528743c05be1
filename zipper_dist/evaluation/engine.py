"""Runs attacks on blocks of examples: what is known is not done again, what is done is kept.

Its work is a generator that yields between the steps of an attack, for other work in between.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zipper_dist.accel.precision import Acceleration, Network
from zipper_dist.attacks import Attack, Blocks, ExampleDraws
from zipper_dist.attacks.base import in_steps
from zipper_dist.attacks.verdict import answers
from zipper_dist.evaluation import outcomes
from zipper_dist.evaluation.attack_list import Measure
from zipper_dist.evaluation.network_views import NetworkViews
from zipper_dist.evaluation.outcomes import (
    BROKEN,
    ROBUST,
    UNKNOWN,
    BlockOutcome,
    MemoryStore,
    states,
)


@dataclass(frozen=True, eq=False)
class Examples:
    """The evaluated images."""

    images: Tensor
    """(N, C, H, W): float32 in [0, 1], or uint8 from 0 to 255. On the device of the labels or on
    the CPU; or what reads those at given places, as in an ImageSet."""
    labels: Tensor
    """int64 (N,), on the device where the images are evaluated."""
    numbers: Tensor | None = None
    """Numbers of the images in the whole set, which decide their random draws: int64 (N,) on the
    CPU; None: 0, 1, 2 …"""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Images, as float32 in the plain memory layout, and labels of some examples."""
        device = self.labels.device
        if isinstance(places, Tensor):
            places = places.to(device)
            images = self.images[places.to(self.images.device)].to(device)
        else:
            images = self.images[places].to(device)
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
    store: MemoryStore
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
            self._addresses[attack] = f"{name}-{outcomes.address(facts)}"
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
                state = "".join(map(str, outcome.state.tolist()))
                known = {"state": state, "spent": outcome.spent, "answers": outcome.answers}
                of_blocks[str(block)] = known
        return found

    def classify(self) -> Iterator[None]:
        """Find out which examples are misclassified without any attack."""
        for block in self.mine:
            outcome = self.outcome(None, block)
            if (outcome.state == UNKNOWN).any():
                meter = Meter(self.tick)
                exact = meter.counts(self.views.exact)
                x, y = self.examples.take(self.blocks.span(block))
                with meter.running(), Acceleration().arithmetic(), torch.no_grad():
                    logits = torch.cat([exact(part) for part in torch.split(x, self.batch_size)])
                found = answers(logits)
                outcome.state = states(found, y).cpu()
                outcome.answers = sorted(set(found.tolist()))
                outcome.add_spent(meter.spent)
                self.store.save(self.address(None), block, outcome)
                yield

    def wanted(self, attack: Attack, before: Sequence[Attack], block: int) -> Tensor:
        """Rows of a block to attack: right when clean, and not broken by an attack ``before``."""
        standing = self.outcome(None, block).state == ROBUST
        for earlier in before:
            standing = standing & (self.outcome(earlier, block).state < BROKEN)
        return self.outcome(attack, block).lacks(standing, self.keep_images or block == 0)

    def cost_left(self, attack: Attack, before: Sequence[Attack]) -> int:
        """What :meth:`attack` would take at most [forward passes × images]."""
        return attack.cost * sum(int(self.wanted(attack, before, b).sum()) for b in self.mine)

    def attack(self, attack: Attack, before: Sequence[Attack] = ()) -> Iterator[None]:
        """Bring the outcomes of an attack up to date, except for examples broken ``before``."""
        for group in self._groups(attack, before):
            meter, results = Meter(self.tick), []
            exact, attacked = map(meter.counts, (self.views.exact, self.views.attacked))
            for places in torch.split(torch.cat(list(group.values())), self.batch_size):
                numbers = places if self.examples.numbers is None else self.examples.numbers[places]
                draws = ExampleDraws(self.seed, attack.name, self.blocks, places, numbers)
                steps = in_steps(attack, attacked, exact, draws, *self.examples.take(places))
                result = None
                while result is None:
                    # Attacks run in fp32; at the yield the caller's mode is back.
                    with meter.running(), Acceleration().arithmetic():
                        result = next(steps)
                    if result is None:
                        yield
                results.append(result)
            images, found = (torch.cat(parts) for parts in zip(*results, strict=True))
            self._keep(attack, group, images, found, meter.spent)
            yield

    def _groups(self, attack: Attack, before: Sequence[Attack]) -> Iterator[dict[int, Tensor]]:
        """Examples to attack, by block: as many whole blocks at a time as fit in a batch."""
        group: dict[int, Tensor] = {}
        for block in self.mine:
            rows = self.wanted(attack, before, block).nonzero().flatten()
            if len(rows) == 0:
                continue
            full = sum(map(len, group.values())) + len(rows) > self.batch_size
            if group and (full or attack.one_block):
                yield group
                group = {}
            group[block] = rows + block * self.blocks.size
        if group:
            yield group

    def _keep(
        self, attack: Attack, group: dict[int, Tensor], images: Tensor, found: Tensor,
        spent: Mapping[str, float],
    ) -> None:  # fmt: skip
        sizes = [len(places) for places in group.values()]
        parts = (torch.split(images, sizes), torch.split(found, sizes))
        for (block, places), block_images, block_found in zip(group.items(), *parts, strict=True):
            outcome = self.outcome(attack, block)
            rows = places - block * self.blocks.size
            state = states(block_found, self.examples.labels[places.to(images.device)].cpu())
            outcome.state[rows] = state
            if self.keep_images or block == 0:
                outcome.images = outcome.images or {}
                for i in (state >= BROKEN).nonzero().flatten().tolist():
                    outcome.images[int(rows[i])] = block_images[i].cpu().contiguous()
            outcome.add_spent({k: v * len(places) / len(found) for k, v in spent.items()})
            self.store.save(self.address(attack), block, outcome)


class Meter:
    """Measures work: seconds, forward passes and gradients [images]; ``tick`` sees each use."""

    def __init__(self, tick: Tick) -> None:
        self.spent: dict[str, float] = {"seconds": 0.0, "forwards": 0, "gradients": 0}
        self._tick = tick

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block."""
        start = time.perf_counter()
        yield
        self.spent["seconds"] += time.perf_counter() - start

    def counts(self, network: Network) -> Network:
        """``network``, its uses counted."""

        def counted(images: Tensor) -> Tensor:
            gradient = images.requires_grad and torch.is_grad_enabled()
            self.spent["gradients" if gradient else "forwards"] += len(images)
            self._tick(2 * len(images) if gradient else len(images))
            return network(images)

        return counted


def stages(wanted: Sequence[Measure]) -> list[tuple[str, Attack, list[Attack]]]:
    """The attacks to run: (label, attack, those before it under the same threat model). Single ones
    come first, so that an ensemble finds their outcomes."""
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
