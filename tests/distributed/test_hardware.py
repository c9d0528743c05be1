"""What a process does with its hardware, and that it can be put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from zipper_dist.distributed.hardware import preserved_process_state, use_hardware
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.errors import Interrupted
from zipper_dist.rng import seed_global_generators

SCRIPT = """
import resource, sys
import torch
from zipper_dist.distributed.hardware import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for size in map(int, sys.argv[2:]):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(13):
        torch.ones(size)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str, *sizes: int) -> int:
    command = [sys.executable, "-c", SCRIPT, how, *map(str, sizes)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt belongs to glibc")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    # 4, 16 and 32 MB. Thirteen times 8,192 pages; with them kept, the first time or two.
    sizes = (2**20, 2**22, 2**23)
    assert page_faults("keep", *sizes) < page_faults("give back", *sizes) / 3


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt belongs to glibc")
def test_the_largest_blocks_go_back_to_the_system() -> None:
    # 80 MB: as many page faults as without.
    assert page_faults("keep", 20 * 2**20) > 0.9 * page_faults("give back", 20 * 2**20)


def test_using_the_hardware_leaves_the_allocator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("zipper_dist.distributed.hardware.keep_freed_memory", fail)
    monkeypatch.setattr("zipper_dist.distributed.hardware.ctypes.CDLL", fail)
    with preserved_process_state():
        use_hardware(plan(Machine.detect({}), "cpu", 1))


State = dict[str, object]


def process_state() -> State:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return {
        "threads": torch.get_num_threads(),
        "cores": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "flags": (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32),
        "generators": [torch.get_rng_state().tolist()]
        + (
            [s.tolist() for s in torch.cuda.get_rng_state_all()]
            if torch.cuda.is_available()
            else []
        ),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "group": dist.is_initialized(),
    }


def change_everything(at: Path) -> None:
    torch.set_num_threads(torch.get_num_threads() + 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.deterministic, cudnn.benchmark = not cudnn.deterministic, not cudnn.benchmark
    cudnn.allow_tf32, matmul.allow_tf32 = not cudnn.allow_tf32, not matmul.allow_tf32
    seed_global_generators(5, "something else")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)
    dist.init_process_group("gloo", init_method=f"file://{at / 'store'}", rank=0, world_size=1)


@pytest.mark.parametrize("fails", [False, True])
def test_the_process_is_afterwards_as_it_was(tmp_path: Path, fails: bool) -> None:
    before = process_state()
    try:
        with preserved_process_state():
            change_everything(tmp_path)
            changed = process_state()
            assert all(changed[name] != before[name] for name in before if name != "cores"), changed
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert process_state() == before


def test_signals_ask_only_while_they_are_installed() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    signals = Signals()
    with signals.installed():
        signals.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as raised:
            signals.check()
    assert raised.value.status == 128 + signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_no_handler_is_installed() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    inside: list[object] = []

    def elsewhere() -> None:
        with preserved_process_state(), Signals().installed():
            inside.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert inside == before
