"""Image classifiers that are both accurate and robust to adversarial examples, trained fast.

The functions here are described in :mod:`zipper_dist.api`; they are loaded when they are used, so
that ``import zipper_dist`` itself is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zipper_dist import attacks
    from zipper_dist.api import Run, benchmark, fit, load_model, recipe
    from zipper_dist.attacks import ATTACKS
    from zipper_dist.config.threat import ThreatModel
    from zipper_dist.data import DATASETS
    from zipper_dist.errors import UserError
    from zipper_dist.evaluation.results.report import Report
    from zipper_dist.models import NETWORKS
    from zipper_dist.objectives import OBJECTIVES
    from zipper_dist.recipes import RECIPES

__version__ = "0.2.0"

# fmt: off
__all__ = [  # noqa: RUF022
    "__version__", "attacks", "Run", "benchmark", "fit", "load_model", "recipe", "ThreatModel",
    "UserError", "Report", "ATTACKS", "DATASETS", "NETWORKS", "OBJECTIVES", "RECIPES",
]
# fmt: on

_MODULES = {
    "ATTACKS": "attacks",
    "DATASETS": "data",
    "NETWORKS": "models",
    "OBJECTIVES": "objectives",
    "RECIPES": "recipes",
    "Report": "evaluation.results.report",
    "ThreatModel": "config.threat",
    "UserError": "errors",
}
"""Where the names are that are not in :mod:`zipper_dist.api`."""


def __getattr__(name: str) -> Any:
    if name == "attacks":
        return importlib.import_module(f"{__name__}.attacks")
    if name in __all__:
        module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'api')}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
