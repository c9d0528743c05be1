"""What training says of its networks at its end is what the evaluation command finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from end_to_end.conftest import Run
from end_to_end.results import summary
from zipper_dist.evaluate import run
from zipper_dist.evaluation.options import EvaluateOptions


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
