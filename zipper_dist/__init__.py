"""Image classifiers that are both accurate and robust to adversarial examples, trained fast.

The functions, described in :mod:`zipper_dist.api`, are loaded when they are first used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zipper_dist import attacks
    from zipper_dist.api import Run, benchmark, classify, export_model, fit, load_model, recipe
    from zipper_dist.attacks import ATTACKS
    from zipper_dist.config.threat import ThreatModel
    from zipper_dist.data import DATASETS
    from zipper_dist.errors import UserError
    from zipper_dist.evaluation.results.report import Report
    from zipper_dist.models import NETWORKS
    from zipper_dist.objectives import OBJECTIVES
    from zipper_dist.prediction.results import Prediction
    from zipper_dist.recipes import RECIPES

__version__ = "0.2.0"

# Taken now, because the imports of a command take seconds in which that process may end.
_PARENT = os.getppid()

__all__ = [  # noqa: RUF022
    "__version__", "attacks", "Run", "benchmark", "classify", "export_model", "fit",
    "load_model", "recipe", "Prediction", "ThreatModel", "UserError", "Report", "ATTACKS",
    "DATASETS", "NETWORKS", "OBJECTIVES", "RECIPES",
]  # fmt: skip

# Where the names are that are not in zipper_dist.api.
_MODULES = {
    "ATTACKS": "attacks",
    "DATASETS": "data",
    "NETWORKS": "models",
    "OBJECTIVES": "objectives",
    "Prediction": "prediction.results",
    "RECIPES": "recipes",
    "Report": "evaluation.results.report",
    "ThreatModel": "config.threat",
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    if name == "attacks":
        return importlib.import_module(f"{__name__}.attacks")
    if name in __all__:
        module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'api')}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
