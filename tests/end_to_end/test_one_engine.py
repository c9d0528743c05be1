"""What training says of its networks at its end is what the evaluation command finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, succeeded, train
from end_to_end.conftest import Run
from end_to_end.results import summary
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.run import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("learner", ["global", "natural", "adversarial"])
@pytest.mark.parametrize("ranks", ["serial", "two_ranks"])
def test_the_table_of_a_run_is_what_evaluate_finds(
    learner: str, ranks: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    found: Run = request.getfixturevalue(ranks)
    run(EvaluateOptions(
        found.path, ("clean", "pgd-3"), learner=learner, limit=40, out=tmp_path, threads=1,
        device="cpu", batch_size=7, picture=False,
    ))  # fmt: skip
    (table,) = tmp_path.glob("evaluation*.json")
    attacks = json.loads(table.read_text())["attacks"]
    said = summary(found.path)["final"]
    assert said["images"] == 40
    assert said["learners"][learner] == {
        "clean": attacks["clean"]["accuracy"], "robust": attacks["pgd-3"]["accuracy"],
    }  # fmt: skip


def test_a_run_under_several_threat_models(tmp_path: Path) -> None:
    """Each and their union at the end, and what evaluate takes from the run by itself."""
    options = ["--steps", "8", "--mix.every", "0", "--eval.threats", "linf:0.1", "l2:1"]
    said = succeeded(train(*SMALL, *options, at=tmp_path)).said
    assert "PGD-3, linf ε 0.1 and l2 ε 1" in said
    run(EvaluateOptions(
        tmp_path / "run", ("clean", "pgd-3"), limit=40, out=tmp_path, threads=1, device="cpu",
        picture=False,
    ))  # fmt: skip
    attacks = json.loads((tmp_path / "evaluation.json").read_text())["attacks"]
    assert summary(tmp_path / "run")["final"]["learners"]["global"] == {
        "clean": attacks["clean"]["accuracy"],
        "robust": attacks["pgd-3@union"]["accuracy"],
        "robust@linf:0.1": attacks["pgd-3@linf:0.1"]["accuracy"],
        "robust@l2:1": attacks["pgd-3@l2:1"]["accuracy"],
    }
