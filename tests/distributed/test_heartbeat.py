"""A rank that is frozen, cut off or gone is named, and the job ends; one that works goes on."""

from __future__ import annotations

import platform
import signal
import time
from pathlib import Path

import pytest

from distributed.jobs import job
from distributed.machines import ADDRESSES, ip, on_machine, two_joined

TIMEOUT = 4.0  # [s]
AFTER = 12.0  # that the ranks may take after it on a busy machine [s]


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_rank_is_named_and_the_job_ends(tmp_path: Path, frozen: int) -> None:
    with job(tmp_path, TIMEOUT, slow=(frozen, 1000)) as ranks:
        for rank in ranks:
            rank.until_it_says("connected")
        ranks[frozen].popen.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert ranks[1 - frozen].ends() == 1
        assert TIMEOUT < time.monotonic() - began < TIMEOUT + AFTER
        said = ranks[1 - frozen].said
        assert f"rank {frozen} (host {platform.node()}, process {ranks[frozen].popen.pid})" in said
        assert said.count("zipper: error: ") == 1
        assert "Traceback" not in said
        if frozen == 1:  # of rank 0, which serves the store here, nothing tells what is wrong
            assert "is frozen, cut off or gone" in said
            # torchrun would wait for it: it is on this machine, so it can be ended.
            assert ranks[frozen].ends() == -signal.SIGKILL


def test_a_rank_that_works_for_longer_is_left_alone(tmp_path: Path) -> None:
    with job(tmp_path, timeout=2, slow=(1, 9)) as ranks:
        assert [rank.ends() for rank in ranks] == [0, 0], [rank.said for rank in ranks]
        assert all("sum 2.0" in rank.said for rank in ranks)


def test_a_job_that_is_stopped_as_a_whole_goes_on_when_it_is_continued(tmp_path: Path) -> None:
    with job(tmp_path, timeout=3, slow=(1, 10)) as ranks:
        for rank in ranks:
            rank.until_it_says("connected")
        for number, seconds in ((signal.SIGSTOP, 6), (signal.SIGCONT, 0)):
            for rank in ranks:
                rank.popen.send_signal(number)
            time.sleep(seconds)
        assert [rank.ends() for rank in ranks] == [0, 0], [rank.said for rank in ranks]


def test_a_link_that_is_cut_ends_the_job_on_both_sides(tmp_path: Path) -> None:
    isolation = ["--pid", "--fork", "--kill-child", "--mount-proc"]
    variables = {"MASTER_ADDR": ADDRESSES[0], "GLOO_SOCKET_IFNAME": "cable"}
    with (
        two_joined() as (first, second),
        job(
            tmp_path,
            TIMEOUT,
            slow=(1, 1000),
            prefixes=[on_machine(name, *isolation) for name in (first, second)],
            **variables,
        ) as ranks,
    ):
        for rank in ranks:
            rank.until_it_says("connected")
        ip("-n", first, "link", "set", "cable", "down")
        began = time.monotonic()
        assert [rank.ends() for rank in ranks] == [1, 1]
        assert TIMEOUT < time.monotonic() - began < TIMEOUT + AFTER
        assert f"nothing was heard of rank 1 (host {second}, process 1) for" in ranks[0].said
        assert f"it is cut off from rank 0 (host {first}, process 1)" in ranks[1].said
        assert [rank.said.count("zipper: error: ") for rank in ranks] == [1, 1]
