"""How ranks find each other, and what they say if they do not."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest
import torch.distributed as dist

from distributed.jobs import RANK, environment, free_port
from zipper_dist.distributed.meeting import Meeting, meet, process_of
from zipper_dist.distributed.topology import Machine
from zipper_dist.errors import PeerLost, UserError


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "5", "WORLD_SIZE": "2"}, "RANK '5': give 0 … 1, because WORLD_SIZE is 2"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK 'x': give 0 … 1"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK '-1': give 0 … 1"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK '': give 0 … 1"),
        ({"WORLD_SIZE": "2"}, "RANK is not set, but WORLD_SIZE is 2"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE '0': give a number of processes"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE 'two': give a number of processes"),
        ({"RANK": "1"}, "RANK '1': give 0 … 0, because WORLD_SIZE is 1"),
        ({"LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "2"}, "LOCAL_RANK '2': give 0 … 1"),
        ({"LOCAL_WORLD_SIZE": "1.5"}, "LOCAL_WORLD_SIZE '1.5': give a number of processes"),
    ],
)
def test_what_is_wrong_with_the_variables_of_a_rank(variables: dict[str, str], words: str) -> None:
    with pytest.raises(UserError) as raised:
        Machine.detect(variables)
    assert words in str(raised.value)


def ended(rank: int, variables: dict[str, str], timeout: float = 60) -> tuple[int, str]:
    """Status and output of a rank of two that is alone."""
    command = [sys.executable, "-c", RANK, str(timeout), "-1", "0"]
    done = subprocess.run(
        command, env=environment(rank, **variables), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"MASTER_PORT": "29500"}, "MASTER_ADDR is not set: give the name or address"),
        ({"MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT '': give a free port of 127.0.0.1"),
        (
            {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "70000"},
            "MASTER_PORT '70000': give a free port of 127.0.0.1, 1 … 65535",
        ),
        ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "http"}, "MASTER_PORT 'http': give a free"),
    ],
)
def test_where_to_meet_is_missing_or_wrong(variables: dict[str, str], words: str) -> None:
    status, said = ended(0, variables)
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith(f"zipper: error: {words}")


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = str(other.getsockname()[1])
        status, said = ended(0, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
    assert status == 2
    assert f"zipper: error: MASTER_ADDR 127.0.0.1, MASTER_PORT {port}: the 2 ranks did not" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("rank", [0, 1])
def test_another_rank_that_never_comes(rank: int) -> None:
    port = str(free_port())
    status, said = ended(rank, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}, timeout=2)
    assert status == 2
    assert f"zipper: error: MASTER_ADDR 127.0.0.1, MASTER_PORT {port}: the 2 ranks did not" in said
    assert "--timeout (2 s)" in said
    assert "Traceback" not in said


@pytest.fixture
def store() -> dist.TCPStore:
    """A store that outlives the ranks, as torchrun's does."""
    return dist.TCPStore("127.0.0.1", free_port(), is_master=True, wait_for_workers=False)


def met(store: dist.TCPStore, size: int, delays: dict[int, float]) -> list[Meeting]:
    """How all ranks find each other that come after so many seconds."""
    found: dict[int, Meeting] = {}

    def come(rank: int) -> None:
        connection = dist.TCPStore(store.host, store.port, wait_for_workers=False)
        threading.Event().wait(delays.get(rank, 0))
        found[rank] = meet(connection, rank, size, 20)

    threads = [threading.Thread(target=come, args=[rank]) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[rank] for rank in range(size)]


def test_every_attempt_has_a_name_of_its_own_in_one_store(store: dist.TCPStore) -> None:
    names = []
    for delays in ({}, {0: 0.3}, {2: 0.3}, {0: 0.1, 1: 0.3}):
        meetings = met(store, 3, delays)
        (name,) = {meeting.name for meeting in meetings}
        assert [peer.rank for peer in meetings[0].peers] == [0, 1, 2]
        assert all(meeting.peers == meetings[0].peers for meeting in meetings)
        names.append(name)
    assert len(set(names)) == len(names)


def test_what_a_dead_attempt_left_behind_is_not_taken_for_a_rank(store: dist.TCPStore) -> None:
    met(store, 2, {})
    for rank, missing in ((0, "rank 1 of 2"), (1, "rank 0 of 2")):
        with pytest.raises(PeerLost, match=rf"^{missing} did not come within 1 s \(--timeout\)"):
            meet(store, rank, 2, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are told apart by /proc")
def test_a_process_is_told_from_others() -> None:
    assert process_of(1) != process_of(2)
    own = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    there = process_of(own.pid)
    assert there == process_of(own.pid) != ""
    own.communicate(b"\n")
    assert process_of(own.pid) == ""
