"""What a person sees while a run goes on, and the files that it leaves behind."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path

import pytest
import torch

from end_to_end.commands import SMALL, STEPS, succeeded, train, typed
from end_to_end.conftest import Run, TerminalRun
from end_to_end.results import WEIGHTS, evaluations, records, summary
from zipper_dist.checkpoint.weights import load_model

pytestmark = pytest.mark.slow

NUMBER = r"\d+(\.\d+)?(e-?\d+)?"
LEARNER = rf"loss {NUMBER}  accuracy {NUMBER} %  lr {NUMBER}  {NUMBER} images/s"
PLAIN_LINES = re.compile(
    rf"iteration \d+/{STEPS} \| {NUMBER} it/s \| γ 0\.\d+ \| "
    rf"global at \d+: clean {NUMBER} %, robust {NUMBER} % \| \d+:\d\d left\n"
    rf"  natural      {LEARNER}\n  adversarial  {LEARNER}\n"
)


@pytest.fixture(params=["serial", "two_ranks"])
def run(request: pytest.FixtureRequest) -> Run:
    """The run in either mode."""
    found: Run = request.getfixturevalue(request.param)
    return found


def test_plain_lines_where_there_is_no_terminal(run: Run) -> None:
    first = run.finished.ranks[0].stdout
    assert "\x1b" not in first
    lines = [line for line in first.splitlines() if line.startswith("iteration ")]
    assert PLAIN_LINES.search(first), first
    assert f"global at {STEPS}: " in lines[-1]


def test_the_table_at_the_end_says_what_the_summary_says(run: Run) -> None:
    said, found = run.finished.said, summary(run.path)
    assert "PGD-3, linf ε 0." in said
    for name, scores in found["final"]["learners"].items():
        assert f"│ {name} │ {scores['clean']:.2f} % │ {scores['robust']:.2f} % │" in said
    best = found["best"]
    assert f"iteration {best['step']}, clean {best['clean']:.2f} %" in said
    assert "waiting" in said
    for rank in found["ranks"]:
        assert f"{rank['wait_seconds']:.1f} s" in said


def test_only_the_first_rank_talks(two_ranks: Run) -> None:
    assert two_ranks.finished.ranks[0].stderr == ""
    assert two_ranks.finished.ranks[1].text == ""


def test_a_live_table_on_a_terminal(on_terminal: TerminalRun) -> None:
    screen = on_terminal.screen
    assert "\x1b[" in screen
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert re.search(r"learner +iteration +loss +accuracy +lr +images/s", plain)
    for name in ("natural", "adversarial"):
        row = rf"{name} +(\d+)/{STEPS} +{NUMBER} +{NUMBER} % +{NUMBER} +{NUMBER} *[\r\n]"
        # It is live: it shows more than one iteration.
        assert len({found[1] for found in re.finditer(row, plain)}) > 1
    assert "━" in plain
    assert re.search(r"γ 0\.\d+", plain)
    assert re.search(r"\d+:\d\d left[\r\n]", plain)
    assert not PLAIN_LINES.search(plain)
    assert "accuracy on 40 test images" in plain


def test_metrics_have_the_documented_keys(run: Run) -> None:
    documented = {"step", "epoch", "learner", "loss", "lr", "gamma"}
    documented |= {"time", "images_per_second", "train_seconds", "wait_seconds", "accuracy"}
    found = records(run.path / "metrics.jsonl")
    training = [record for record in found if record["learner"] != "global"]
    assert {record["learner"] for record in training} == {"natural", "adversarial"}
    for record in training:
        assert documented <= record.keys()
        assert record["epoch"] == pytest.approx(record["step"] / 10)  # 160 images, 16 a minibatch
        assert record["images_per_second"] > 0
    assert len(evaluations(run.path)) == len(found) - len(training)


def test_config_holds_every_option_as_resolved(run: Run) -> None:
    config = json.loads((run.path / "config.json").read_text())
    options = config["options"]
    assert options["seed"] == 0
    assert options["steps"] == STEPS
    assert options["mix"]["gamma"] == "0:0.3,1:0.7"
    assert options["learners"]["adversarial"]["attack"]["steps"] == 2
    # One that was not given: it is the recipe's.
    assert options["learners"]["natural"]["momentum"] == 0.9
    assert config["versions"]["torch"] == torch.__version__
    assert config["host"] == platform.node()
    assert config["devices"] == ["cpu"] * len(summary(run.path)["ranks"])
    assert config["command"][1:] == SMALL


def test_summary_has_the_documented_keys(run: Run) -> None:
    found = summary(run.path)
    for name in ("train_seconds", "eval_seconds", "images_per_second"):
        assert found[name] > 0
    for rank in found["ranks"]:
        assert {"busy_seconds", "wait_seconds", "comm_bytes", "syncs"} <= rank.keys()
        assert 0 < rank["busy_seconds"] <= rank["wall_seconds"]
    assert set(found["final"]["learners"]) == {"natural", "adversarial", "global"}
    for scores in [*found["final"]["learners"].values(), found["best"]]:
        assert all(0 <= scores[kind] <= 100 for kind in ("clean", "robust"))
    history = evaluations(run.path)
    best = max(history, key=lambda record: record["clean"] + record["robust"])
    assert {key: found["best"][key] for key in best} == best


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_enough_to_rebuild_the_network(run: Run, name: str) -> None:
    model = load_model(run.path / f"{name}.safetensors")
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_nothing_but_the_documented_files(run: Run) -> None:
    expected = {"config.json", "metrics.jsonl", "summary.json", "checkpoints", "run.lock"}
    expected |= {f"{name}.safetensors" for name in WEIGHTS}
    assert {path.name for path in run.path.iterdir()} == expected


def test_the_last_look_counts_in_parallel_too(tmp_path: Path) -> None:
    """It is the only one here, and takes much longer than what else rank 0 does meanwhile."""
    long = typed("--steps 8 --eval.every 8 --eval.attack-steps 120 --eval.batch-size 8")
    succeeded(train(*SMALL, *long, at=tmp_path, ranks=2))
    run = tmp_path / "run"
    (look,) = (r for r in records(run / "metrics.jsonl") if r["learner"] == "global")
    found = summary(run)
    # Between two units of its work rank 0 does other things.
    assert found["look_seconds"] > 0.5 * look["seconds"]
    assert found["wall_seconds"] >= found["train_seconds"]
