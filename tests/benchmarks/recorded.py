"""The comparisons that are recorded in benchmarks/results/time, as they were before their pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comparison.experiments import experiment, method_row, with_beta
from comparison.matching import Accuracy, Match
from comparison.results import HEADINGS, SECONDS, Costs, Found, Outcome, Run

RECORDED = Path(__file__).parents[2] / "benchmarks" / "results" / "time"
NAMES = [path.name for path in sorted(RECORDED.iterdir())]


def recorded(name: str) -> Outcome:
    """What outcome.json has of a comparison."""
    there: dict[str, Any] = json.loads((RECORDED / name / "outcome.json").read_text())
    outcome = Outcome(experiment(there["experiment"]))
    outcome.match = Match(**there["match"]) if there["match"] else None
    if there["costs"]:
        measured = ("natural", "adversarial", "steps")
        outcome.costs = Costs(**{name: there["costs"][name] for name in measured})
    outcome.betas = {float(beta): Accuracy(**each) for beta, each in there["betas"].items()}
    outcome.gammas = {float(gamma): Accuracy(**each) for gamma, each in there["gammas"].items()}
    outcome.commands = there["commands"]
    for run in there["runs"]:
        row = method_row(run["row"], outcome.experiment.recipe)
        if outcome.match and row.recipe.endswith("-trades"):
            row = with_beta(row, outcome.match.beta)
        outcome.runs.append(Run(row, run["seed"], Path()))
        figures = {key: run[key] for key in (*HEADINGS, *SECONDS) if key in run}
        found = Found(run["row"], run["seed"], figures, run["images"], run["weights"])
        outcome.found.append(found)
    outcome.about = {"versions": {}, "resolved": {"precision": "bf16"}}
    return outcome
