"""Addressed randomness: a draw depends on where it is used, never on what was drawn before.

Every generator is seeded by an address, such as ``(seed, "pgd-start", "adversarial", 17)``. So it
does not matter which process draws, in what order, or whether the run was interrupted.
"""

from __future__ import annotations

import hashlib

import torch

Address = int | str


def seed_at(*address: Address) -> int:
    """A 63-bit seed for an address; different addresses give independent seeds."""
    digest = hashlib.blake2b(repr(address).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_at(device: torch.device | str, *address: Address) -> torch.Generator:
    """A fresh generator on ``device``, seeded by ``address``."""
    return torch.Generator(device).manual_seed(seed_at(*address))


def seed_global_generators(*address: Address) -> None:
    """Seed torch's global generators, which modules such as dropout draw from."""
    torch.manual_seed(seed_at(*address))
