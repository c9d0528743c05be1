"""Image classifiers that are both accurate and robust to adversarial examples, trained fast.

The functions here are described in :mod:`zipper_dist.api`; they are loaded when they are used, so
that ``import zipper_dist`` itself is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zipper_dist import attacks as attacks
    from zipper_dist.api import (
        Run as Run,
    )
    from zipper_dist.api import (
        benchmark as benchmark,
    )
    from zipper_dist.api import (
        fit as fit,
    )
    from zipper_dist.api import (
        load_model as load_model,
    )
    from zipper_dist.api import (
        recipe as recipe,
    )
    from zipper_dist.attacks import ATTACKS as ATTACKS
    from zipper_dist.config.threat import ThreatModel as ThreatModel
    from zipper_dist.data import DATASETS as DATASETS
    from zipper_dist.errors import UserError as UserError
    from zipper_dist.evaluation.results.report import Report as Report
    from zipper_dist.models import NETWORKS as NETWORKS
    from zipper_dist.objectives import OBJECTIVES as OBJECTIVES
    from zipper_dist.recipes import RECIPES as RECIPES

__version__ = "0.2.0"

_HOME = {
    "Run": "api",
    "benchmark": "api",
    "fit": "api",
    "load_model": "api",
    "recipe": "api",
    "ATTACKS": "attacks",
    "DATASETS": "data",
    "NETWORKS": "models",
    "OBJECTIVES": "objectives",
    "RECIPES": "recipes",
    "Report": "evaluation.results.report",
    "ThreatModel": "config.threat",
    "UserError": "errors",
}
"""The module below this package that each name comes from."""

__all__ = ["__version__", "attacks", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name == "attacks":
        return importlib.import_module(f"{__name__}.attacks")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
