"""What an iteration costs beside the networks' passes: data under 2 %, logging and progress 1 %."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from zipper_dist.config import AttackConfig
from zipper_dist.display import Progress, Record

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from step_settings import NETWORKS, Variant
from step_variants import EngineIteration


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_data_and_logging_are_next_to_nothing_of_an_iteration() -> None:
    # A quarter of the width and half of the attack of `cifar10`: far less than a run is made of.
    setting = NETWORKS["resnet18"]
    small = replace(
        setting,
        spec=replace(setting.spec, width_multiplier=0.25),
        batch_size=32,
        attack=AttackConfig(eps=8 / 255, step_size=0.007, steps=5),
    )
    assert small.augment
    iteration = EngineIteration(small, Variant("fp32", False), torch.device("cpu"))
    iteration()
    seen = [iteration() for _ in range(5)]
    # The least of several: what other programs on the machine take is not ours.
    least = {part: min(each[part] for each in seen) for part in seen[0]}
    assert least["data"] < 0.02 * least["seconds"]
    assert least["rest"] < 0.01 * least["seconds"]


def test_the_live_table_takes_less_than_a_hundredth_of_a_core() -> None:
    with Path(os.devnull).open("w") as nowhere:
        terminal = Console(file=nowhere, force_terminal=True, width=140)
        progress = Progress(["natural", "adversarial"], 1000, 0, terminal)
        shown = {"step": 5, "loss": 0.5, "accuracy": 90.0, "lr": 0.1, "images_per_second": 100.0}
        for name in ("natural", "adversarial"):
            record: Record = shown | {"learner": name, "gamma": 0.5}
            progress.update(record)
        live = progress._live
        assert live is not None
        with progress:
            seconds = min(_processor_seconds(live.refresh) for _ in range(20))
        assert seconds * live.auto_refresh * live.refresh_per_second < 0.01


def _processor_seconds(work: object) -> float:
    assert callable(work)
    start = time.thread_time()
    work()
    return time.thread_time() - start
