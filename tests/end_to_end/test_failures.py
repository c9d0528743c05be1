"""When a rank dies or the training diverges, the run stops at once and says why."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import safetensors.torch

from end_to_end.commands import SMALL, STEPS, WIDE, Command, Output, Stop, stopped, succeeded, train
from end_to_end.conftest import Here, Run
from end_to_end.results import LEARNERS, assert_same_result
from zipper_dist.checkpoint.format import load, path_of, steps_of

pytestmark = pytest.mark.slow

# A minute would do as well: what must not be is the half hour that a collective waits by default.
AT_ONCE = 40.0

# Weight decay and learning rate multiply the weights by -10⁶ an iteration from iteration 19 on, so
# that they overflow after a few; until then the learner stands still.
LAST_SOUND = 18


def diverging(learner: str) -> list[str]:
    option = f"--learners.{learner}"
    return [
        *(f"{option}.lr", "1000", f"{option}.weight-decay", "1000"),
        *(f"{option}.schedule", "0:0,0.5:0,0.51:1"),
        # Losses are looked at when a record is due: the first bad one must be named all the same.
        *("--log-every", "50", "--eval.every", "7"),
    ]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stop, Path]:
    """How a job ended of which one rank was killed without a warning, and where it ran."""

    def kill_one(command: Command) -> None:
        os.kill(command.rank(1), signal.SIGKILL)

    at = tmp_path_factory.mktemp("killed")
    return stopped(kill_one, at, ranks=2, further=17, arguments=WIDE), at


def test_a_rank_that_is_killed_takes_the_job_down_at_once(killed: tuple[Stop, Path]) -> None:
    stop, _ = killed
    assert stop.seconds < AT_ONCE
    assert stop.finished.status not in (0, None)
    report = stop.finished.output.stderr
    assert re.search(r"rank +: 1 \(local_rank: 1\)\s+exitcode +: -9 ", report), report
    assert "SIGKILL" in report
    # The other one is told to end and does so in order. If it has missed its partner before that,
    # it is on its way out, and the signal may meet it when Python no longer handles signals.
    first = stop.finished.ranks[0].text
    status = re.search(r"rank +: 0 \(local_rank: 0\)\s+exitcode +: (-?\d+) ", report)
    assert status, report
    assert status[1] in (("1", "-15") if "zipper: error: lost contact with " in first else ("143",))
    assert "Traceback" not in first


def test_one_process_continues_what_is_left(killed: tuple[Stop, Path], serial_wide: Run) -> None:
    _, at = killed
    assert "continuing from iteration " in succeeded(train(*WIDE, at=at)).said
    assert_same_result(serial_wide.path, at / "run")


def assert_divergence_is_explained(output: Output, learner: str, at: Path) -> None:
    (line,) = [line for line in output.stderr.splitlines() if line]
    found = re.search(rf"zipper: error: the loss of the {learner} learner is (nan|inf)", line)
    assert found, line
    iteration = re.search(r" at iteration (\d+)", line)
    assert iteration
    # The weights overflow 38 / 6 iterations later at the latest.
    assert LAST_SOUND < int(iteration[1]) <= LAST_SOUND + 9
    assert f"--learners.{learner}.lr" in line

    run = at / "run"
    for name in LEARNERS:
        steps = steps_of(run / "checkpoints", name)
        for step in steps:
            assert load(path_of(run / "checkpoints", name, step)).info.step == step
        assert 14 in steps
        if name == learner:
            assert max(steps) < int(iteration[1])
    assert not (run / "summary.json").exists()
    assert not (run / "global.safetensors").exists()
    best = safetensors.torch.load_file(run / "best.safetensors")
    assert all(tensor.isfinite().all() for tensor in best.values())


def test_a_loss_that_is_not_finite_on_two_ranks(tmp_path: Path) -> None:
    finished = train(*SMALL, *diverging("adversarial"), at=tmp_path, ranks=2)
    assert finished.status not in (0, None)
    assert finished.seconds < 120
    assert_divergence_is_explained(finished.ranks[1], "adversarial", tmp_path)
    for output in finished.ranks:
        assert "Traceback" not in output.text


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_loss_that_is_not_finite_in_one_process(
    tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str], learner: str
) -> None:
    assert here(*SMALL, *diverging(learner)) == 1
    said = capsys.readouterr()
    assert_divergence_is_explained(Output(said.out, said.err), learner, tmp_path)
    assert f"iteration {STEPS}/" not in said.out
