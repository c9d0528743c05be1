from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipper_dist.distributed.communication import World
from zipper_dist.distributed.hardware import describe_device
from zipper_dist.distributed.topology import Machine, Plan, plan
from zipper_dist.errors import UserError

CPU = torch.device("cpu")


def machines(ranks: int, gpus: int = 0, cores: int = 8) -> list[Machine]:
    """The processes of a job on one machine, each as it finds things."""
    return [Machine(rank, ranks, rank, ranks, gpus, tuple(range(cores))) for rank in range(ranks)]


def plans(
    ranks: int, gpus: int = 0, cores: int = 8, device: str = "auto", threads: int | None = None
) -> list[Plan]:
    return [plan(machine, device, threads) for machine in machines(ranks, gpus, cores)]


def test_one_process_trains_both_learners_in_turn() -> None:
    (alone,) = plans(1)
    assert alone.device == CPU
    assert alone.cores == tuple(range(8))
    assert alone.threads == 8
    assert alone.backend is None
    assert alone.fetches_data
    assert alone.notes == ()


def test_two_ranks_train_one_learner_each() -> None:
    first, second = plans(2)
    assert (first.rank, second.rank) == (0, 1)
    assert {p.world_size for p in (first, second)} == {2}
    assert {p.device for p in (first, second)} == {CPU}
    assert {p.backend for p in (first, second)} == {"gloo"}
    # One of them downloads.
    assert (first.fetches_data, second.fetches_data) == (True, False)
    assert first.notes == second.notes == ()


def test_two_ranks_on_a_cpu_divide_its_cores() -> None:
    first, second = plans(2, cores=8)
    assert (first.cores, second.cores) == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert (first.threads, second.threads) == (4, 4)


@settings(deadline=None)
@given(cores=st.lists(st.integers(0, 200), min_size=2, max_size=16, unique=True))
def test_the_shares_of_the_cores_are_disjoint_and_equal(cores: list[int]) -> None:
    found = [
        plan(Machine(rank, 2, rank, 2, 0, tuple(sorted(cores))), "cpu", None) for rank in range(2)
    ]
    assert not set(found[0].cores) & set(found[1].cores)
    for p in found:
        # Equal, because bit-identical runs take the same threads for each learner.
        assert p.threads == len(p.cores) == len(cores) // 2
        assert set(p.cores) <= set(cores)


def test_two_ranks_share_a_single_core() -> None:
    for p in plans(2, cores=1):
        assert p.cores == (0,)
        assert p.threads == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_threads_can_be_given(ranks: int) -> None:
    for p, default in zip(plans(ranks, threads=3), plans(ranks), strict=True):
        assert p.threads == 3
        assert p.cores == default.cores


def test_ranks_on_machines_of_their_own_have_all_its_cores_and_fetch_the_data() -> None:
    for rank in range(2):
        p = plan(Machine(rank, 2, 0, 1, 0, (0, 1, 2, 3)), "cpu", None)
        assert p.cores == (0, 1, 2, 3)
        assert p.threads == 4
        assert p.fetches_data


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_gpu_that_is_not_there(ranks: int) -> None:
    with pytest.raises(UserError, match=r"--device cuda.*no GPU"):
        plans(ranks, gpus=0, device="cuda")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_two_ranks_have_a_gpu_each_and_talk_over_nccl(device: str) -> None:
    first, second = plans(2, gpus=2, device=device)
    assert (first.device, second.device) == (torch.device("cuda", 0), torch.device("cuda", 1))
    assert first.backend == second.backend == "nccl"
    assert first.notes == second.notes == ()


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_two_ranks_share_one_gpu_over_gloo_and_are_told(device: str) -> None:
    for p in plans(2, gpus=1, device=device):
        assert p.device == torch.device("cuda", 0)
        assert p.backend == "gloo"
        (note,) = p.notes
        assert "gloo" in note
        assert "NCCL" in note


def test_one_process_takes_the_first_gpu() -> None:
    (alone,) = plans(1, gpus=4)
    assert alone.device == torch.device("cuda", 0)
    assert alone.backend is None


def test_a_gpu_need_not_be_used() -> None:
    for p in plans(2, gpus=2, device="cpu"):
        assert p.device == CPU
        assert p.backend == "gloo"
        assert p.notes == ()


def test_what_torchrun_says_is_read() -> None:
    environment = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    machine = Machine.detect(environment)
    assert (machine.rank, machine.world_size) == (3, 4)
    assert (machine.local_rank, machine.local_world_size) == (1, 2)
    assert machine.gpus == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert len(machine.cores) >= 1


def test_without_torchrun_a_process_is_alone() -> None:
    machine = Machine.detect({})
    assert (machine.rank, machine.world_size) == (0, 1)
    assert (machine.local_rank, machine.local_world_size) == (0, 1)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be assigned here")
def test_only_the_cores_of_this_process_are_counted() -> None:
    assert Machine.detect({}).cores == tuple(sorted(os.sched_getaffinity(0)))


@pytest.fixture
def unchanged_process() -> Iterator[None]:
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    yield
    torch.set_num_threads(threads)
    if cores:
        os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("unchanged_process")
def test_a_world_uses_its_threads_and_cores() -> None:
    cores = Machine.detect({}).cores[:1]
    World(plan(Machine(0, 1, 0, 1, 0, cores), "cpu", 3))
    assert torch.get_num_threads() == 3
    if hasattr(os, "sched_getaffinity"):
        assert os.sched_getaffinity(0) == set(cores)


@pytest.mark.usefixtures("unchanged_process")
def test_alone_everything_is_there_at_once_and_nothing_is_sent() -> None:
    world = World(plan(Machine.detect({}), "cpu", 1))
    pending = world.all_reduce(torch.tensor([1.0, 2.0]))
    assert pending.done()
    assert pending.result().tolist() == [1, 2]
    gathered = world.gather("topic", {"steps": (1, 2), 3: None})
    assert gathered.done()
    # As JSON, as it would be with more ranks.
    assert gathered.result() == [{"steps": [1, 2], "3": None}]
    world.send({"step": 1})
    assert world.receive() == []
    assert world.comm_bytes == 0
    world.close()


def test_devices_in_words() -> None:
    assert describe_device(CPU) == "cpu"
