"""Random generators by address, such as ``(seed, "pgd-start", "adversarial", 17)``.

A draw depends on its address alone, not on the process, the order or interruptions.
"""

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
