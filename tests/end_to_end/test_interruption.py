"""A run that is interrupted and started again ends with the bits of one that never was."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, STEPS, Command, Finished, Stop, stopped, succeeded, train
from end_to_end.conftest import Here, Run
from end_to_end.results import (
    LEARNERS,
    WEIGHTS,
    assert_same_result,
    evaluations,
    newest,
    records,
    weights,
)
from zipper_dist.checkpoint.format import path_of, steps_of

pytestmark = pytest.mark.slow

CONTINUES = "the same command continues"

# (modification time, content) of every file of a run directory but its lock, by name.
Snapshot = dict[str, tuple[int, bytes]]


def snapshot(run: Path) -> Snapshot:
    files = (path for path in run.rglob("*") if path.is_file() and path.name != "run.lock")
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def send(number: int) -> Callable[[Command], None]:
    """Send a signal to what was started: torchrun, or the one process."""
    return lambda command: command.process.send_signal(number)


@dataclass(frozen=True)
class Chain:
    """A run that was stopped several times, and a copy of how the first time left it."""

    torn: Path
    stops: list[Stop]
    end: Finished
    path: Path


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Chain, Chain]:
    """A run that one process begins and SIGTERM stops, and that goes on in both modes.

    In one process: Ctrl-C, then SIGKILL, then to the end. On two ranks: SIGTERM to torchrun,
    SIGKILL to torchrun, SIGKILL to all processes, then to the end.
    """
    first = tmp_path_factory.mktemp("serial-chain")
    second, torn = (tmp_path_factory.mktemp(name) for name in ("parallel-chain", "torn"))
    begun = stopped(send(signal.SIGTERM), first, further=9)
    for copy in (torn, second):
        shutil.copytree(first / "run", copy / "run")

    def in_one_process() -> Chain:
        acts = (send(signal.SIGINT), send(signal.SIGKILL))
        stops = [begun, *(stopped(act, first) for act in acts)]
        return Chain(torn / "run", stops, train(*SMALL, at=first), first / "run")

    def on_two_ranks() -> Chain:
        acts = (send(signal.SIGTERM), send(signal.SIGKILL), Command.kill)
        stops = [stopped(act, second, ranks=2, further=4) for act in acts]
        return Chain(torn / "run", stops, train(*SMALL, at=second, ranks=2), second / "run")

    # Side by side: a process that starts keeps one core busy, a rank that waits none.
    with ThreadPoolExecutor() as pool:
        serial, parallel = pool.submit(in_one_process), pool.submit(on_two_ranks)
        return serial.result(), parallel.result()


@pytest.fixture
def serial_chain(chains: tuple[Chain, Chain]) -> Chain:
    """The interrupted run in one process."""
    return chains[0]


@pytest.fixture
def parallel_chain(chains: tuple[Chain, Chain]) -> Chain:
    """The interrupted run on two ranks."""
    return chains[1]


@pytest.fixture(params=["serial_chain", "parallel_chain"])
def chain(request: pytest.FixtureRequest) -> Chain:
    """The interrupted run in either mode."""
    found: Chain = request.getfixturevalue(request.param)
    return found


def test_the_result_is_that_of_an_uninterrupted_run(serial: Run, chain: Chain) -> None:
    succeeded(chain.end)
    assert_same_result(serial.path, chain.path)


def test_it_was_interrupted_and_did_continue(chain: Chain) -> None:
    done = 0
    for stop in chain.stops:
        assert done < max(stop.before.values()) < STEPS
        done = max(stop.saved.values())
    for finished in [*(stop.finished for stop in chain.stops[1:]), chain.end]:
        assert "continuing from iteration " in finished.said


def test_two_ranks_continue_what_one_process_began(
    serial_chain: Chain, parallel_chain: Chain
) -> None:
    began = serial_chain.stops[0].saved["natural"]
    assert f"continuing from iteration {began} " in parallel_chain.stops[0].finished.said


def test_a_termination_saves_what_is_done_and_says_how_to_continue(chain: Chain) -> None:
    stop = chain.stops[0]
    assert f"interrupted after iteration {stop.saved['natural']}; saved in run: {CONTINUES}" in (
        stop.finished.said
    )
    for name in LEARNERS:
        assert stop.saved[name] >= stop.before[name]
    assert all(output.stderr == "" for output in stop.finished.ranks), stop.finished


def test_ctrl_c_saves_what_is_done_and_says_how_to_continue(serial_chain: Chain) -> None:
    stop = serial_chain.stops[1]
    assert f"interrupted after iteration {stop.saved['natural']}; saved in run: {CONTINUES}" in (
        stop.finished.said
    )
    assert min(stop.saved.values()) >= max(stop.before.values())
    assert stop.finished.output.stderr == ""


def test_statuses_are_those_that_shells_expect(serial_chain: Chain) -> None:
    assert [stop.finished.status for stop in serial_chain.stops] == [143, 130, -9]


def test_ranks_that_lose_torchrun_end_without_a_traceback(parallel_chain: Chain) -> None:
    finished = parallel_chain.stops[1].finished
    assert finished.status == -9
    for output in finished.ranks:
        assert "Traceback" not in output.text
        assert "zipper: error: lost contact with " in output.text


def test_metrics_tell_of_every_iteration_once(serial_chain: Chain) -> None:
    found = records(serial_chain.path / "metrics.jsonl")
    for name in LEARNERS:
        steps = [record["step"] for record in found if record["learner"] == name]
        assert steps == list(range(1, STEPS + 1))


def crash_before_the_end(run: Run, at: Path) -> Path:
    """A copy of the run as a crash leaves it when all iterations are done and nothing else is."""
    shutil.copytree(run.path, at / "run")
    for name in ("natural", "adversarial", "global"):
        (at / "run" / f"{name}.safetensors").unlink()
    (at / "run" / "summary.json").unlink()
    return at / "run"


def damage(run: Path, learner: str) -> Path:
    """Flip a bit in the newest checkpoint of ``learner``."""
    path = path_of(run / "checkpoints", learner, newest(run, learner))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(
    serial: Run, tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str], learner: str
) -> None:
    run = crash_before_the_end(serial, tmp_path)
    damaged = damage(run, learner)
    assert here(*SMALL) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"damaged checkpoint left out: {damaged.relative_to(tmp_path)}: " in said
    assert "continuing from iteration 35" in said
    assert_same_result(serial.path, run)


def test_a_damaged_checkpoint_of_one_rank(serial: Run, tmp_path: Path) -> None:
    run = crash_before_the_end(serial, tmp_path)
    # The natural learner's checkpoint says that the last look is evaluated. The adversarial
    # learner, set back to the iteration before it, is going to take part in that look again.
    damaged = damage(run, "adversarial")
    end = succeeded(train(*SMALL, at=tmp_path, ranks=2))
    assert f"damaged checkpoint left out: {damaged.relative_to(tmp_path)}: " in end.said
    assert_same_result(serial.path, run)


def test_with_all_checkpoints_damaged_the_run_starts_over(
    serial: Run, tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    run = crash_before_the_end(serial, tmp_path)
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    assert here(*SMALL) == 0
    said = capsys.readouterr().out
    assert said.count("damaged checkpoint left out") == 6
    assert "continuing" not in said
    assert_same_result(serial.path, run)
    assert len(evaluations(run)) == len(evaluations(serial.path))


def test_a_complete_run_is_reported_and_not_repeated(
    serial: Run, tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(serial.path, tmp_path / "run")
    before = snapshot(tmp_path / "run")
    assert here(*SMALL) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "run is complete; --resume never would start it over" in said
    table = serial.finished.said.partition("weights, metrics and summary")[0]
    assert table[table.index("digits: accuracy on 40 test images") :].strip() in said
    assert snapshot(tmp_path / "run") == before


def test_a_complete_run_on_two_ranks(serial: Run, tmp_path: Path) -> None:
    shutil.copytree(serial.path, tmp_path / "run")
    before = snapshot(tmp_path / "run")
    finished = succeeded(train(*SMALL, at=tmp_path, ranks=2))
    assert "run is complete" in finished.said
    assert "digits: accuracy on 40 test images" in finished.said
    assert finished.ranks[0].stderr == ""
    assert finished.ranks[1].text == ""
    assert snapshot(tmp_path / "run") == before


@pytest.mark.parametrize("complete", [False, True])
def test_another_configuration_is_refused(
    serial: Run,
    serial_chain: Chain,
    tmp_path: Path,
    here: Here,
    capsys: pytest.CaptureFixture[str],
    complete: bool,
) -> None:
    shutil.copytree(serial.path if complete else serial_chain.torn, tmp_path / "run")
    before = snapshot(tmp_path / "run")
    assert here(*SMALL, "--mix.ema", "0.5", "--learners.natural.lr", "0.25") == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert "--learners.natural.lr 0.02 there, 0.25 now" in line
    assert "--mix.ema 0.7 there, 0.5 now" in line
    assert line.count(" there, ") == 2
    assert snapshot(tmp_path / "run") == before


@pytest.mark.parametrize("complete", [False, True])
def test_resume_never_starts_over(
    serial: Run,
    serial_chain: Chain,
    tmp_path: Path,
    here: Here,
    capsys: pytest.CaptureFixture[str],
    complete: bool,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(serial.path if complete else serial_chain.torn, run)
    (run / "notes.txt").write_text("the person's own")
    # With other options too: there is nothing left that they could contradict.
    assert here(*SMALL, "--steps", "3", "--resume", "never") == 0
    said = capsys.readouterr().out
    assert "continuing" not in said
    assert "is complete" not in said
    assert [r["step"] for r in records(run / "metrics.jsonl") if r["learner"] == "natural"] == (
        [1, 2, 3]
    )
    assert {steps_of(run / "checkpoints", name)[0] for name in LEARNERS} == {3}
    assert set(weights(run)) == set(WEIGHTS)
    assert weights(run)["global"] != weights(serial.path)["global"]
    assert (run / "notes.txt").exists()


@pytest.mark.parametrize("command", ["train", "evaluate", "launcher"])
def test_ctrl_c_while_packages_are_imported_ends_in_no_traceback(
    tmp_path: Path, command: str
) -> None:
    # In the place of PyTorch, something that takes as long as a test needs.
    slow = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(60)"
    (tmp_path / "torch.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", f"zipper_dist.{command}", "digits"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "begun").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert said == ""
