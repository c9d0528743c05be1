"""What attacks did to the examples of a block, kept by everything that decides it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from zipper_dist.attacks.verdict import NO_ANSWER
from zipper_dist.checkpoint.files import check_writable, write_atomically

UNKNOWN, ROBUST, BROKEN, NOT_FINITE = 0, 1, 2, 3
"""States of an example under an attack: not attacked, survived, misclassified, or logits that are
NaN or infinite, which is broken, too: whatever is ``>= BROKEN``."""


def states(found: Tensor, labels: Tensor) -> Tensor:
    """The states, uint8 (n,), of examples with these ``labels`` for which a network's answers are
    ``found``, both int64 (n,)."""
    state = torch.where(found == labels, ROBUST, BROKEN)
    return torch.where(found == NO_ANSWER, NOT_FINITE, state).byte()


@dataclass
class BlockOutcome:
    """What an attack did to the examples of a block, and what that took."""

    state: Tensor
    """UNKNOWN, ROBUST, BROKEN or NOT_FINITE: uint8 (n,)."""
    images: dict[int, Tensor] | None = None
    """The adversarial image (C, H, W) of each broken example, by its row; None: not kept."""
    spent: dict[str, float] = field(default_factory=dict)
    """``seconds``, ``forwards`` and ``gradients`` [images], over all examples of the block."""
    answers: list[int] = field(default_factory=list)
    """The classes that the network answers to clean images; empty for an attack."""

    def add_spent(self, more: Mapping[str, float]) -> None:
        """Add to what it took."""
        for name, amount in more.items():
            self.spent[name] = self.spent.get(name, 0) + amount

    def lacks(self, wanted: Tensor, with_images: bool) -> Tensor:
        """Which of the rows of the mask ``wanted`` (n,) are still to be attacked: bool (n,)."""
        missing = self.state == UNKNOWN
        if with_images:
            have = torch.zeros(len(self.state), dtype=torch.bool)
            have[list(self.images or {})] = True
            missing |= (self.state >= BROKEN) & ~have
        return missing & wanted


def address(facts: Mapping[str, Any]) -> str:
    """A short name for all that decides an outcome; other facts give another one."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class MemoryStore:
    """Outcomes in memory, by the address of the attack and the number of the block."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], BlockOutcome] = {}

    def load(self, attack: str, block: int, size: int) -> BlockOutcome:
        """What is known of a block of ``size`` examples: the object that is kept."""
        if (attack, block) not in self._known:
            self._known[attack, block] = self._read(attack, block, size)
        return self._known[attack, block]

    def save(self, attack: str, block: int, outcome: BlockOutcome) -> None:
        """Keep what is known of a block."""
        self._known[attack, block] = outcome

    def _read(self, attack: str, block: int, size: int) -> BlockOutcome:
        return BlockOutcome(torch.zeros(size, dtype=torch.uint8))


class DiskStore(MemoryStore):
    """Outcomes below a directory, which all ranks share: a file for a block under an attack, with a
    checksum of what is in it and of what it belongs to. What does not fit is as if absent."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.damaged: list[str] = []
        """A line on each file that was there and could not be used."""

    def prepare(self) -> None:
        """Make the directory; raises UserError where it cannot be written."""
        check_writable(self.root.parent, "--out", self.root)

    def path(self, attack: str, block: int) -> Path:
        """The file of a block under the attack at the address ``attack``."""
        return self.root / attack / f"{block:06}.safetensors"

    def _read(self, attack: str, block: int, size: int) -> BlockOutcome:
        path, nothing = self.path(attack, block), super()._read(attack, block, size)
        if not path.exists():
            return nothing
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                facts = dict(file.metadata())
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            if facts.pop("checksum") != _checksum(attack, block, facts, tensors):
                raise ValueError("its checksum is that of other content")
            spent, answers = json.loads(facts["spent"]), json.loads(facts["answers"])
        except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
            self.damaged.append(f"{path}: damaged, or of another evaluation; that block is redone")
            return nothing
        images = None
        if "images" in tensors:
            images = dict(zip(tensors["rows"].tolist(), tensors["images"], strict=True))
        return BlockOutcome(tensors["state"], images, spent, answers)

    def save(self, attack: str, block: int, outcome: BlockOutcome) -> None:
        """Keep what is known of a block; a reader sees all of it or what was there before."""
        super().save(attack, block, outcome)
        tensors = {"state": outcome.state}
        if outcome.images:
            tensors["rows"] = torch.tensor(list(outcome.images))
            tensors["images"] = torch.stack(list(outcome.images.values())).contiguous()
        path = self.path(attack, block)
        path.parent.mkdir(exist_ok=True)
        facts = {"spent": json.dumps(outcome.spent), "answers": json.dumps(outcome.answers)}
        facts["checksum"] = _checksum(attack, block, facts, tensors)
        write_atomically(path, safetensors.torch.save(tensors, facts))


def _checksum(
    attack: str, block: int, facts: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> str:
    """SHA-256 of an outcome and of what it is the outcome of: the address of the attack, which
    stands for network, images and settings too, and the block."""
    shapes = {name: [str(t.dtype), list(t.shape)] for name, t in tensors.items()}
    head = json.dumps([attack, block, dict(facts), shapes], sort_keys=True)
    digest = hashlib.sha256(head.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
