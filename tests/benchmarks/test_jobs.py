"""Devices, and the commands that run on them: real processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from comparison import jobs
from comparison.devices import Command, Devices
from comparison.jobs import Job, JobFailed, Runner
from rich.console import Console

from zipper_dist.errors import Interrupted, UserError

CORES = Devices("cpu", ("0", "1"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.02)


def job(directory: Path, name: str, code: str, devices: int = 1) -> Job:
    """Runs ``code``, with ``out`` the file that it has to write and ``on`` its devices."""

    def make(on: Sequence[str]) -> Command:
        preface = f"import time, sys; out = open({str(file)!r} + '.part', 'w'); on = {list(on)}\n"
        ending = f"\nout.close(); import os; os.rename({str(file)!r} + '.part', {str(file)!r})"
        return Command((sys.executable, "-c", preface + code + ending))

    file = directory / name
    return Job(name, make, devices, file.exists, directory / f"{name}.log")


def runner(devices: Devices = CORES) -> Runner:
    return Runner(devices, Console(quiet=True))


STAMP = "start = time.time(); time.sleep(0.5); out.write(f'{start} {time.time()} {on[0]}')"


def spans(directory: Path, names: Sequence[str]) -> list[tuple[float, float, int]]:
    words = [(directory / name).read_text().split() for name in names]
    return [(float(a), float(b), int(on)) for a, b, on in words]


def test_one_at_a_time_in_order(tmp_path: Path) -> None:
    names = ["a", "b"]
    runner().run("stage", [job(tmp_path, name, STAMP) for name in names], together=False)
    (_, a_end, _), (b_start, _, _) = spans(tmp_path, names)
    assert a_end <= b_start


def test_together_each_has_a_device_of_its_own(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    runner().run("stage", [job(tmp_path, name, STAMP) for name in names], together=True)
    (a_start, a_end, a_on), (b_start, b_end, b_on), (c_start, _, _) = spans(tmp_path, names)
    assert max(a_start, b_start) < min(a_end, b_end)
    assert {a_on, b_on} == {0, 1}
    assert c_start >= min(a_end, b_end)


def test_a_job_of_two_devices_waits_for_both(tmp_path: Path) -> None:
    both = [job(tmp_path, "a", STAMP), job(tmp_path, "b", STAMP, devices=2)]
    runner().run("stage", both, together=True)
    (_, a_end, _), (b_start, _, _) = spans(tmp_path, ["a", "b"])
    assert a_end <= b_start


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    done = job(tmp_path, "a", "raise SystemExit(1)")
    (tmp_path / "a").write_text("")
    runner().run("stage", [done, job(tmp_path, "b", STAMP)], together=False)
    assert not done.log.exists()
    assert (tmp_path / "b").exists()


def test_a_failure_stops_the_others_and_shows_the_end_of_the_log(tmp_path: Path) -> None:
    bad = job(tmp_path, "bad", "print('what is wrong'); raise SystemExit(3)")
    long = job(tmp_path, "long", "time.sleep(600)")
    start = time.monotonic()
    with pytest.raises(JobFailed, match="bad ended with status 3") as failed:
        runner().run("stage", [long, bad], together=True)
    assert str(failed.value).splitlines()[-1] == "  what is wrong"
    assert time.monotonic() - start < 60


def test_success_without_a_result_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="status 0"):
        runner().run("stage", [job(tmp_path, "a", "sys.exit(0)")], together=False)


def test_more_devices_than_there_are(tmp_path: Path) -> None:
    wanted = "two takes 2 GPUs, and there is only 1 GPU here: leave it out with --methods"
    with pytest.raises(UserError, match=wanted):
        runner(Devices("cuda", ("0",))).run("stage", [job(tmp_path, "two", "", 2)], together=False)


@pytest.mark.parametrize(
    ("number", "handed_on"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGHUP, signal.SIGTERM),
    ],
)
def test_an_interruption_is_handed_on_and_waited_for(
    tmp_path: Path, number: signal.Signals, handed_on: signal.Signals
) -> None:
    saves = f"""
import signal
def save(number, frame):
    time.sleep(0.3)
    open({str(tmp_path / "saved")!r}, "w").write(str(number))
    sys.exit(128 + number)
signal.signal(signal.SIGINT, save)
signal.signal(signal.SIGTERM, save)
open({str(tmp_path / "ready")!r}, "w").close()
time.sleep(600)
"""
    before = signal.signal(number, signal.SIG_DFL)  # it may be ignored, as under nohup
    try:
        when_ready(tmp_path / "ready", lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted) as stopped:
            runner().run("stage", [job(tmp_path, "a", saves)], together=False)
        assert stopped.value.status == 128 + handed_on
        assert (tmp_path / "saved").read_text() == str(int(handed_on))
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def when_ready(file: Path, act: Callable[[], None]) -> None:
    def wait() -> None:
        while not file.exists():
            time.sleep(0.05)
        act()

    threading.Thread(target=wait, daemon=True).start()


def test_commands_as_they_are_typed() -> None:
    serial = CORES.command("zipper_dist.train", ["digits", "--mix.gamma", "0:1,1:0.5"], on=["1"])
    assert str(serial) == (
        "taskset -c 1 python -m zipper_dist.train digits --mix.gamma 0:1,1:0.5 --device cpu "
        "--threads 1"
    )
    parallel = Devices("cuda", ("0", "1")).command("zipper_dist.train", ["cifar10"], on=["0", "1"])
    assert str(parallel) == (
        "CUDA_VISIBLE_DEVICES=0,1 python -m zipper_dist.launcher --standalone --nproc_per_node=2 "
        "-m zipper_dist.train cifar10 --device cuda"
    )
    assert parallel.environment == {"CUDA_VISIBLE_DEVICES": "0,1"}


def test_a_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda: no GPU was found here; give cpu or auto"):
        Devices.detect("cuda")
    assert Devices.detect("auto").kind == "cpu"
    found = Devices.detect("cpu").names
    assert sorted(map(int, found)) == sorted(os.sched_getaffinity(0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert Devices.detect("auto") == Devices("cuda", ("0", "1"))
    assert Devices.detect("cpu").kind == "cpu"
    # Of a machine's GPUs, those that were given to us.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8932f937")
    assert Devices.detect("cuda").names == ("2", "GPU-8932f937")


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hangs_up = f"import os; os.kill({os.getpid()}, 1); time.sleep(0.2)"
    try:
        runner().run("stage", [job(tmp_path, "a", hangs_up)], together=False)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (tmp_path / "a").exists()


def test_a_second_signal_kills_what_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SECOND_SIGNAL_SECONDS", 0.2)
    deaf = f"""
import signal
signal.signal(signal.SIGINT, lambda number, frame: open({str(tmp_path / "heard")!r}, "w").close())
open({str(tmp_path / "ready")!r}, "w").close()
while True:
    time.sleep(0.1)
"""

    def again() -> None:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    when_ready(tmp_path / "ready", lambda: os.kill(os.getpid(), signal.SIGINT))
    when_ready(tmp_path / "heard", again)
    with pytest.raises(Interrupted):
        runner().run("stage", [job(tmp_path, "a", deaf)], together=False)


def test_what_a_killed_comparison_left_at_work_keeps_others_out(tmp_path: Path) -> None:
    killed = runner()
    with killed.alone_in(tmp_path):
        killed._start(job(tmp_path, "a", "time.sleep(600)"), ("0",))
    (left,) = killed._running
    with pytest.raises(UserError, match="is in use"), runner().alone_in(tmp_path):
        pass
    left.process.kill()
    left.process.wait()
    with runner().alone_in(tmp_path):
        pass
