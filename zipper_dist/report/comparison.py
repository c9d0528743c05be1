"""Several runs beside each other: groups by options, means over seeds, the Pareto front."""

from __future__ import annotations

import json
import statistics
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zipper_dist.checkpoint.options import NOT_COMPARED, as_compared, unnamed
from zipper_dist.config.files import flattened
from zipper_dist.config.threat import ThreatModel
from zipper_dist.report.reading import Run


@dataclass(frozen=True)
class Spread:
    """Mean of ``n`` figures, and their sample standard deviation; None of a single one."""

    mean: float
    std: float | None
    n: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread | None:
        """None without values."""
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else None
        return Spread(statistics.fmean(values), std, len(values))

    def text(self, unit: str = "") -> str:
        """As in a table."""
        spread = "" if self.std is None else f" ± {self.std:.2f}"
        return f"{self.mean:.2f}{spread}{unit and f' {unit}'}"


@dataclass(frozen=True)
class Group:
    """The ``runs`` that have the same ``options`` but the seed; ``counted`` are the complete ones,
    each seed once, and ``repeated`` those with a seed that is counted already."""

    name: str
    options: Mapping[str, Any]
    runs: Sequence[Run]
    counted: Sequence[Run]
    repeated: Sequence[Run]

    @property
    def recipe(self) -> str:
        """The recipe of the options."""
        return str(self.options["recipe"])

    def score(self, figure: str, learner: str = "global") -> Spread | None:
        """Accuracy of a learner at the end on the test set: "clean" or "robust" [%]."""
        found = (run.summary["final"]["learners"] for run in self.counted if run.summary)
        return Spread.of([scores[learner][figure] for scores in found if learner in scores])

    def evaluated(self, way: str) -> Spread | None:
        """What evaluations found that measured in one of the ways of :func:`evaluations` [%]."""
        each = [ways(run.evaluation) for run in self.counted if run.evaluation]
        return Spread.of([found[way]["accuracy"] for found in each if way in found])

    def train_seconds(self) -> Spread | None:
        """How long the training took, evaluations left out."""
        found = [run.summary.get("train_seconds") for run in self.counted if run.summary]
        return Spread.of([seconds for seconds in found if isinstance(seconds, int | float)])

    @property
    def measured(self) -> set[str]:
        """How the robust accuracies were measured, on how many images, and of which data."""
        found = (run.summary for run in self.counted if run.summary)
        return {
            json.dumps([s["evaluation_attack"], s["final"]["images"], self.data]) for s in found
        }

    @property
    def data(self) -> str:
        """The data set; with its directory where that decides which images it has. (The digest
        of the images is another one for each seed, which chooses those held out.)"""
        source = str(self.options.get("data.source", "unknown data"))
        published = source in ("digits", "mnist", "cifar10", "cifar100", "svhn")
        return source if published else f"{source} in {self.options.get('data.root')}"


def group(runs: Sequence[Run]) -> list[Group]:
    """The groups, in the order in which their first runs are given, with letters as names."""
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(json.dumps(_compared(run), sort_keys=True), []).append(run)
    groups = []
    for index, same in enumerate(members.values()):
        counted: dict[int, Run] = {}
        repeated = []
        for run in (run for run in same if run.summary):
            if counted.setdefault(run.options["seed"], run) is not run:
                repeated.append(run)
        name, options = _letters(index), _compared(same[0])
        groups.append(Group(name, options, same, list(counted.values()), repeated))
    return groups


def data_of(groups: Sequence[Group]) -> list[str]:
    """The data sets of the groups with figures: only of one can figures be compared."""
    return sorted({each.data for each in groups if each.counted})


def ways(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of an evaluation but the clean one, by how each was measured: attack, threat
    models, images and the settings of the attack. Those with the same key can be compared."""
    images = {k: v for k, v in evaluation["data"].items() if k in ("name", "of", "chosen")}
    return {
        json.dumps(
            [name, evaluation["threats"], images, found["n"], found["settings"]], sort_keys=True
        ): found
        for name, found in evaluation["attacks"].items()
        if name != "clean"
    }


def evaluations(groups: Sequence[Group]) -> dict[str, str]:
    """All ways in which evaluations of the groups measured, each with its words."""
    found = [run.evaluation for each in groups for run in each.counted if run.evaluation]
    words = {way: _way_in_words(way) for evaluation in found for way in ways(evaluation)}
    alike: dict[str, list[str]] = {}
    for way, said in words.items():
        alike.setdefault(said, []).append(way)
    for said, several in alike.items():
        settings = [json.loads(way)[-1] for way in several]
        for way, own in zip(several, settings, strict=True):
            more = [k for k in own if any(other.get(k) != own[k] for other in settings)]
            words[way] = ", ".join([said, *(f"{k.replace('_', ' ')} {own[k]}" for k in more)])
    return words


def _way_in_words(way: str) -> str:
    name, threats, images, n, _ = json.loads(way)
    against = threats_in_words(threats)
    return ", ".join(filter(None, [name, against, f"{n} images of {images['name']}"]))


def threats_in_words(threats: Sequence[Mapping[str, Any]]) -> str:
    """Threat models as in evaluation.json; empty without any."""
    return " and ".join(ThreatModel(each["norm"], each["eps"]).words() for each in threats)


def differing(groups: Sequence[Group]) -> dict[str, list[str]]:
    """The options in which groups differ, each with its value in every group."""
    names = sorted({name for each in groups for name in each.options})
    found = {}
    for name in names:
        values = [_word(each.options.get(name, _unnamed(each, name))) for each in groups]
        if len(set(values)) > 1:
            found[name] = values
    return found


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The numbers of the points that no other is at least as good as in both figures, and better in
    one; by the first figure, the highest first."""
    order = sorted(range(len(points)), key=lambda i: points[i], reverse=True)
    front: list[int] = []
    for i in order:
        # Those before have as much of the first figure, or more.
        if not front or points[i][1] > points[front[-1]][1] or points[i] == points[front[-1]]:
            front.append(i)
    return front


def _compared(run: Run) -> dict[str, Any]:
    """The options by dotted names that tell a run from others, by the rule of run directories,
    and what ``auto`` came to of those that change results."""
    resolved = {"precision (resolved)": run.config["resolved"].get("precision")}
    shards = run.config["resolved"].get("shards")
    if shards != 1:  # one is what runs have that do not name it
        resolved["shards (resolved)"] = shards
    return as_compared(flattened(run.options) | resolved, {*NOT_COMPARED, "seed"})


def _unnamed(each: Group, name: str) -> Any:
    """What an option is of a group that does not name it; "–" of a learner that it has not."""
    kind, _, rest = name.partition(".")
    if kind == "learners" and rest.partition(".")[0] not in each.runs[0].learners:
        return "–"
    return 1 if name == "shards (resolved)" else unnamed(name)


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "none" if value is None else str(value)


def _letters(index: int) -> str:
    """A … Z, then A2 … Z2, and so on."""
    rounds, letter = divmod(index, 26)
    return string.ascii_uppercase[letter] + (str(rounds + 1) if rounds else "")
