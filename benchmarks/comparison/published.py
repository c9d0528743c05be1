"""Published figures, to stand beside ours. Source: the paper's tables (mean ± std of 5 runs)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A line of a published table: figures as printed, by their names in JSON."""

    label: str
    figures: Mapping[str, str]


TRAINING_RATIO = (342, 397)
"""Minutes of Zipper, parallel and serial, for CIFAR-10 with ResNet-18 on RTX 3090 GPUs."""

PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "cifar10": (
        Published(
            "TRADES (tuned to reach 89 % clean)",
            {"nat": "89.91 ± 0.69", "pgd_100": "34.25 ± 0.56", "apgd": "30.20 ± 0.81",
             "minutes": "414"},
        ),
        Published(
            "Zipper (serial)",
            {"nat": "89.11 ± 0.23", "pgd_100": "50.12 ± 0.12", "apgd": "46.12 ± 0.11",
             "minutes": "397"},
        ),
        Published(
            "Zipper (parallel)",
            {"nat": "89.09", "pgd_100": "50.00", "apgd": "46.53", "minutes": "342"},
        ),
    ),
    "mnist-table": (
        Published("Zipper", {"nat": "99.24 ± 0.07", "pgd_20": "96.14 ± 0.15", "aa": "92.3 ± 0.3"}),
        Published(
            "TRADES", {"nat": "99.07 ± 0.13", "pgd_20": "94.45 ± 0.07", "aa": "92.17 ± 0.21"}
        ),
        Published("FAT", {"nat": "99.18 ± 0.03", "pgd_20": "93.54 ± 0.1", "aa": "90.04 ± 0.68"}),
    ),
    "svhn-table": (
        Published("Zipper", {"nat": "94.11 ± 0.27", "pgd_20": "55.29 ± 0.23"}),
        Published(
            "TRADES", {"nat": "93.1 ± 0.25", "pgd_20": "55.38 ± 0.71", "aa": "45.52 ± 0.37"}
        ),
        Published("FAT", {"nat": "93.87 ± 0.4", "pgd_20": "53.61 ± 0.88"}),
    ),
    "cifar10-learning-rates": (
        Published("N 0.1, A 0.01", {"nat": "89.09", "aa": "46.07"}),
        Published("N 0.1, A 0.1", {"nat": "90.12", "aa": "41.86"}),
        Published("N 0.1, A 0.001", {"nat": "90.45", "aa": "43.55"}),
        Published("N 0.01, A 0.01", {"nat": "88.4", "aa": "48.03"}),
        Published("N 0.01, A 0.1", {"nat": "88.25", "aa": "42.98"}),
    ),
}  # fmt: skip
"""By experiment."""
