"""Runs attacks on blocks of examples: what is known is not done again, what is done is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zipper_dist.attacks import Network, make_ball
from zipper_dist.evaluation.blocks import Layout, Places
from zipper_dist.evaluation.network_views import Meter
from zipper_dist.evaluation.outcomes import BROKEN, ROBUST, UNKNOWN, BlockOutcome, Store, address
from zipper_dist.evaluation.registry import Part, Threat, components, make_part


@dataclass(frozen=True, eq=False)
class Examples:
    """The evaluated images, whole on the device."""

    images: Tensor
    """float32 (N, C, H, W) in [0, 1], in the plain memory layout."""
    labels: Tensor
    """int64 (N,)."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Networks:
    """The network in the forms that an evaluation needs: images → logits."""

    exact: Network
    """Has the last word on every image."""
    attacked: Network
    """What the attacks differentiate."""
    screening: Network | None = None
    """A coarser and faster one that is attacked first."""


@dataclass(frozen=True)
class Setting:
    """What an evaluation works with; ``identity`` is what decides outcomes beside the attack."""

    examples: Examples
    networks: Networks
    layout: Layout
    seed: int
    identity: dict[str, Any]
    batch_size: int
    keep_images: bool = False
    """Keep the adversarial images of every block, not only of the first."""


Tick = Callable[[int], None]
"""Takes the cost of some work [forward passes × images]; may raise to stop the evaluation."""


@dataclass
class Worker:
    """The blocks of one rank, attacked in order.

    Args:
        setting: what to work with.
        store: where outcomes are kept.
        blocks: numbers of the blocks of this rank.
        tick: called at every use of a network.
    """

    setting: Setting
    store: Store
    blocks: Sequence[int]
    tick: Tick = lambda cost: None
    _known: dict[tuple[str, int], BlockOutcome] = field(default_factory=dict)

    def address(self, part: Part | None) -> str:
        """Where the outcomes of an attack (None: of no attack, clean images) are kept."""
        s = self.setting
        facts = {**s.identity, "seed": s.seed, "blocks": s.layout.block_size}
        facts["attack"] = part.settings if part else "clean"
        return f"{part.name if part else 'clean'}-{address(facts)}"

    def outcome(self, part: Part | None, block: int) -> BlockOutcome:
        """What is known of a block under an attack."""
        where = self.address(part)
        if (where, block) not in self._known:
            size = self.setting.layout.size(block)
            self._known[where, block] = self.store.load(where, block, size)
        return self._known[where, block]

    def classify(self) -> None:
        """Find out which examples are misclassified without any attack."""
        for block in self.blocks:
            outcome = self.outcome(None, block)
            if (outcome.state == UNKNOWN).any():
                start = time.perf_counter()
                meter = Meter(self.setting.networks.exact, self.tick)
                x, y = self._take(torch.arange(self.setting.layout.count)[self._span(block)])
                outcome.state = torch.where(self._wrong(meter, x, y).cpu(), BROKEN, ROBUST).byte()
                outcome.add_spent(_spent(start, [meter]))
                self.store.save(self.address(None), block, outcome)

    def wanted(self, part: Part, before: Sequence[Part], block: int) -> Tensor:
        """Rows of a block to attack: right when clean, and not broken by an attack ``before``."""
        standing = self.outcome(None, block).state == ROBUST
        for earlier in before:
            standing = standing & (self.outcome(earlier, block).state != BROKEN)
        keep = self.setting.keep_images or block == 0
        return self.outcome(part, block).lacks(standing, keep)

    def cost_left(self, part: Part, before: Sequence[Part]) -> int:
        """What :meth:`attack` would take at most [forward passes × images]."""
        return part.cost * sum(int(self.wanted(part, before, b).sum()) for b in self.blocks)

    def attack(self, part: Part, before: Sequence[Part] = ()) -> None:
        """Bring the outcomes of an attack up to date, except for examples broken ``before``."""
        for group in self._groups(part, before):
            start = time.perf_counter()
            meters: list[Meter] = []
            examples = torch.cat(list(group.values()))
            adversarial = [
                self._attacked(part, chunk, meters)
                for chunk in torch.split(examples, self.setting.batch_size)
            ]
            images = torch.cat([found[0] for found in adversarial])
            broken = torch.cat([found[1] for found in adversarial])
            self._keep(part, group, images, broken, _spent(start, meters))

    def _groups(self, part: Part, before: Sequence[Part]) -> Iterator[dict[int, Tensor]]:
        """Examples to attack, by block: as many whole blocks at a time as fit in a batch."""
        group: dict[int, Tensor] = {}
        for block in self.blocks:
            rows = self.wanted(part, before, block).nonzero().flatten()
            if len(rows) == 0:
                continue
            held = sum(len(examples) for examples in group.values())
            full = held + len(rows) > self.setting.batch_size
            if group and (full or part.block_at_a_time):
                yield group
                group = {}
            group[block] = rows + block * self.setting.layout.block_size
        if group:
            yield group

    def _attacked(self, part: Part, examples: Tensor, meters: list[Meter]) -> tuple[Tensor, Tensor]:
        """The last word on some examples: images inside the ball (n, C, H, W), and broken (n,)."""
        s = self.setting
        x, y = self._take(examples)
        ball = make_ball(part.settings["norm"], x, part.settings["eps"])
        result, standing = x.clone(), torch.arange(len(x), device=x.device)
        exact = Meter(s.networks.exact, self.tick)
        views = [v for v in (s.networks.screening, s.networks.attacked) if v is not None]
        meters.append(exact)
        for view in views:
            for restart in range(part.restarts):
                if len(standing) == 0:
                    break
                meter = Meter(view, self.tick)
                meters.append(meter)
                places = Places(s.layout, examples, part.name, s.seed, restart)[standing]
                found = part.run(meter, x[standing], y[standing], places).detach()
                # Attacks of other origin keep the ball only up to rounding, and may go astray.
                found = torch.where(found.isfinite(), found, x[standing])
                result[standing] = found
                result = ball.project(result)
                standing = standing[~self._wrong(exact, result[standing], y[standing])]
        broken = torch.ones(len(x), dtype=torch.bool)
        broken[standing.cpu()] = False
        return result, broken

    def _keep(
        self, part: Part, group: dict[int, Tensor], images: Tensor, broken: Tensor,
        spent: dict[str, float],
    ) -> None:  # fmt: skip
        total, at = len(broken), 0
        for block, examples in group.items():
            outcome, n = self.outcome(part, block), len(examples)
            rows = examples - block * self.setting.layout.block_size
            outcome.state[rows] = torch.where(broken[at : at + n], BROKEN, ROBUST).byte()
            if self.setting.keep_images or block == 0:
                outcome.images = outcome.images or {}
                for i in broken[at : at + n].nonzero().flatten().tolist():
                    outcome.images[int(rows[i])] = images[at + i].cpu().contiguous()
            outcome.add_spent({name: amount * n / total for name, amount in spent.items()})
            self.store.save(self.address(part), block, outcome)
            at += n

    def _span(self, block: int) -> slice:
        return self.setting.layout.span(block)

    def _take(self, examples: Tensor) -> tuple[Tensor, Tensor]:
        chosen = examples.to(self.setting.examples.labels.device)
        return self.setting.examples.images[chosen], self.setting.examples.labels[chosen]

    def _wrong(self, network: Network, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            chunks = torch.split(x, self.setting.batch_size)
            return torch.cat([network(chunk) for chunk in chunks]).argmax(1) != y


def _spent(start: float, meters: Sequence[Meter]) -> dict[str, float]:
    return {
        "seconds": time.perf_counter() - start,
        "forwards": sum(meter.forwards for meter in meters),
        "gradients": sum(meter.gradients for meter in meters),
    }


def stages(names: Sequence[str], parts: dict[str, Part]) -> list[tuple[str, Part, list[Part]]]:
    """The parts to run for the attacks ``names``: (attack, part, the parts before it in it).

    Attacks that are their own only part come first, so that an ensemble finds their outcomes.
    """
    found = []
    for name in sorted(names, key=lambda name: len(components(name)) > 1):
        before: list[Part] = []
        for component in components(name):
            found.append((name, parts[component], list(before)))
            before.append(parts[component])
    return found


def needed_parts(names: Sequence[str], threat: Threat, restarts: int) -> dict[str, Part]:
    """The parts that the attacks ``names`` are made of, by name."""
    wanted = [component for name in names for component in components(name)]
    return {name: make_part(name, threat, restarts) for name in dict.fromkeys(wanted)}
