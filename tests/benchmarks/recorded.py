"""The comparisons that are recorded in benchmarks/results/time, as they were before their pages."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from comparison.experiments import Options, experiment, with_beta, with_methods
from comparison.matching import Accuracy, Match
from comparison.results import HEADINGS, SECONDS, Costs, Found, Outcome, Run, Shared

RECORDED = Path(__file__).parents[2] / "benchmarks" / "results" / "time"
NAMES = [path.name for path in sorted(RECORDED.iterdir())]


def recorded(name: str) -> tuple[Outcome, str, str]:
    """The outcome, the command and the machine. What outcome.json does not have (versions, waiting)
    is read off the page."""
    there: dict[str, Any] = json.loads((RECORDED / name / "outcome.json").read_text())
    page = (RECORDED / name / "page.md").read_text()
    words = shlex.split(there["command"])
    at = words.index("--methods") + 1 if "--methods" in words else len(words)
    methods = []
    for word in words[at:]:
        if word.startswith("--"):
            break
        methods.append(word)
    extra = words[words.index("--") + 1 :] if "--" in words else []
    found = experiment(there["experiment"])
    found = with_methods(found, methods) if methods else found
    options: Options = tuple(zip(extra[::2], extra[1::2], strict=True))
    outcome = Outcome(replace(found, options=(*found.options, *options)))
    outcome.match = Match(**there["match"]) if there["match"] else None
    ideal = ("serial_ideal_seconds", "parallel_ideal_seconds", "natural_share")
    if there["costs"]:
        outcome.costs = Costs(**{k: v for k, v in there["costs"].items() if k not in ideal})
    outcome.betas = {float(beta): Accuracy(**each) for beta, each in there["betas"].items()}
    outcome.gammas = {float(gamma): Accuracy(**each) for gamma, each in there["gammas"].items()}
    outcome.commands, outcome.missing = there["commands"], there["missing"]
    waited = re.findall(r"the rank of the (\w+) learner ([\d.]+) s", page)
    syncs = re.search(r"the run has (\d+),", page)
    ranks = [
        {"learners": [learner], "wait_seconds": float(s), "syncs": int(syncs[1]) if syncs else 0}
        for learner, s in waited
    ]
    rows = {row.key: row for row in outcome.experiment.rows}
    for run in there["runs"]:
        row = rows[run["row"]]
        if outcome.match and row.recipe.endswith("-trades"):
            row = with_beta(row, outcome.match.beta)
        outcome.runs.append(Run(row, run["seed"], Path()))
        figures = {key: run[key] for key in (*HEADINGS, *SECONDS) if key in run}
        shared = Shared(**run["on_shared_images"]) if run["on_shared_images"] else None
        outcome.found.append(
            Found(run["row"], run["seed"], figures, run["images"], {"ranks": ranks},
                  run["weights"], frozenset(run["on_first_images"]), shared)
        )  # fmt: skip
    versions = re.search(r"(zipper_dist [^;]*);", page)
    precision = re.search(r"training in (\w+)", page)
    steps = re.search(r"with (\d+) gradient steps", page)
    assert versions is not None
    assert precision is not None
    attack = {"steps": int(steps[1]) if steps else 0}
    outcome.about = {
        "versions": dict(each.split() for each in versions[1].split(", ")),
        "resolved": {"precision": precision[1]},
        "options": {"learners": {"adversarial": {"attack": attack}}},
    }
    return outcome, there["command"], there["machine"]
