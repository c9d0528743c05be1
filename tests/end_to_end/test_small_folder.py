"""A folder of few images trains sensibly with nothing but its path."""

from __future__ import annotations

import json
from pathlib import Path

from end_to_end.commands import succeeded, train, typed
from end_to_end.results import evaluations, newest, summary
from end_to_end.striped_images import CLASSES, make_folder

# What makes the run shorter, and decides nothing of what is asserted: a third of the epochs, a
# narrow network, attacks of fewer steps.
CHEAP = typed("""
    --epochs 40 --model.width 0.125 --learners.adversarial.attack.steps 2
    --learners.adversarial.attack.step-size 0.02 --eval.attack-steps 5 --device cpu --threads 1
    --precision fp32 --run-dir run
""")


def test_180_images_of_the_users_own(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", side=16)
    finished = succeeded(train("folder", "--data.root", str(root), *CHEAP, at=tmp_path))
    run, result = tmp_path / "run", summary(tmp_path / "run")
    assert "batch size 32, for 162 training images" in finished.said
    assert result["steps"] == 200
    assert result["redistributions"] >= 3
    assert sum(rank["syncs"] for rank in result["ranks"]) == result["redistributions"] + 1
    found = evaluations(run)
    assert 5 <= len(found) <= 20
    assert "constant" not in result["best"]
    assert newest(run, "natural") == result["steps"]
    chance = 100 / len(CLASSES)
    for name in ("natural", "global"):
        assert result["final"]["learners"][name]["clean"] > chance + 40
    assert result["final"]["learners"]["global"]["robust"] > chance + 20
    assert result["best"]["clean"] > chance + 40


def test_options_that_are_given_are_kept(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", train=60, test=20, side=16)
    given = typed("--batch-size 50 --epochs 4 --eval.every 1")
    succeeded(train("folder", "--data.root", str(root), *CHEAP, *given, at=tmp_path))
    assert [record["step"] for record in evaluations(tmp_path / "run")] == [1, 2, 3, 4]
    options = json.loads((tmp_path / "run" / "config.json").read_text())["options"]
    assert (options["batch_size"], options["eval"]["every"]) == (50, "1")
