"""The variants that ``bench_step`` compares, each an iteration that times its parts."""

from __future__ import annotations

import functools
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from reference import Reference
from reference import loader as reference_loader
from rich.console import Console
from step_settings import Setting, Variant, images_for
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.schema import Precision
from zipper_dist.data import Loader
from zipper_dist.distributed.hardware import keep_freed_memory
from zipper_dist.metrics.records import StepResult, Window
from zipper_dist.metrics.sinks import RunInfo, make_sinks
from zipper_dist.models import build
from zipper_dist.objectives.at import Adversarial, AtConfig
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.training.flat_state import FlatState
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.mixing import Mixer


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class Log:
    """Metrics and progress as training has them, on a terminal that nobody sees, but reported at
    every iteration, which is ten times as often as training does by default."""

    def __init__(self, learners: list[str], batch_size: int) -> None:
        self.windows = [Window(name, batch_size) for name in learners]
        nowhere = Path(os.devnull).open("w")  # noqa: SIM115 (as long as the process)
        console = Console(file=nowhere, force_terminal=True)
        self.sinks = make_sinks(["jsonl", "terminal"])
        for sink in self.sinks:
            sink.open(RunInfo(Path(tempfile.mkdtemp()), learners, 1000, console=console))

    def report(self, t: int, shown: list[StepResult]) -> None:
        """Take up an iteration of every learner."""
        for window, result in zip(self.windows, shown, strict=True):
            window.add(t, result, 1.0)
            record = window.close()
            assert record is not None
            record = replace(
                record, epoch=0.0, lr=0.1, gamma=0.5, train_seconds=0.0, wait_seconds=0.0
            )
            for sink in self.sinks:
                sink.write(record.as_json())


class EngineIteration:
    """One iteration of serial Zipper as zipper_dist.train runs it, with its parts timed."""

    def __init__(self, setting: Setting, variant: Variant, device: torch.device) -> None:
        assert variant.precision is not None
        engine = Acceleration(variant.precision, variant.compiled)
        self.device = device
        torch.manual_seed(0)
        model = build(setting.spec).to(device)
        padding = 4 if setting.augment else 0
        images = images_for(setting).to(device)
        self.loader = Loader(images, setting.batch_size, 0, padding, setting.augment)
        configs = {
            "natural": NaturalConfig(lr=0.01),
            "adversarial": AtConfig(lr=0.01, attack=setting.attack),
        }
        theta = FlatState(build(setting.spec).to(device)).flat
        self.learners = []
        for name, config in configs.items():
            network = build(setting.spec).to(device)
            network.load_state_dict(model.state_dict())
            self.learners.append(BaseLearner(name, network, config, 0, 1000, engine))
        weights = {"natural": 0.5, "adversarial": 0.5}
        self.mixer = Mixer(theta, list(configs), "natural", lambda t: weights, 0.999)
        self.attack_seconds = 0.0
        objective = self.learners[1].objective
        assert isinstance(objective, Adversarial)
        objective.perturb = self._timed(objective.perturb)  # type: ignore[method-assign]
        self.log = Log(list(configs), setting.batch_size)
        self.t = 0

    def _timed(self, perturb: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def timed(*args: Any) -> Tensor:
            start = time.perf_counter()
            images = perturb(*args)
            synchronize(self.device)
            self.attack_seconds = time.perf_counter() - start
            return images

        return timed

    def __call__(self) -> dict[str, float]:
        """Run an iteration: seconds by part."""
        self.t += 1
        marks = [time.perf_counter()]

        def mark() -> None:
            synchronize(self.device)
            marks.append(time.perf_counter())

        batch = self.loader.minibatch(self.t)
        mark()
        shown = []
        for learner in self.learners:
            shown.append(learner.step(batch, self.t))
            mark()
        self.mixer.accumulate(self.t, {each.name: each.mixable for each in self.learners})
        mark()
        self.log.report(self.t, shown)
        mark()
        data, natural, adversarial, mixing, rest = (b - a for a, b in itertools.pairwise(marks))
        return {
            "seconds": marks[-1] - marks[0],
            "attack": self.attack_seconds,
            "adversarial step": adversarial - self.attack_seconds,
            "natural step": natural,
            "mixing": mixing,
            "data": data,
            "rest": rest,
        }


class ReferenceIteration:
    """One iteration of the plain reference."""

    def __init__(self, setting: Setting, device: torch.device) -> None:
        torch.manual_seed(0)
        attack = setting.attack
        self.device = device
        self.eps = attack.eps
        self.reference = Reference(
            build(setting.spec).to(device),
            (0.01, 0.01),
            (5e-4, 5e-4),
            attack.eps,
            attack.step_size,
            attack.steps,
            gamma=0.5,
            decay=0.999,
        )
        images = images_for(setting)
        self._loader = reference_loader(
            images.images, images.labels, setting.batch_size, setting.augment
        )
        self._batches = iter(self._loader)
        self.t = 0

    def __call__(self) -> dict[str, float]:
        """Run an iteration: seconds by part."""
        self.t += 1
        begin = time.perf_counter()
        batch = next(self._batches, None)
        if batch is None:
            self._batches = iter(self._loader)
            batch = next(self._batches)
        x, y = (tensor.to(self.device) for tensor in batch)
        data = time.perf_counter() - begin
        self.reference.parts = {}
        self.reference.step(x, y, self.t, x + self.eps * (2 * torch.rand_like(x) - 1))
        synchronize(self.device)
        return {
            "seconds": time.perf_counter() - begin,
            "data": data,
            **self.reference.parts,
        }


@functools.cache
def matmul_rate(precision: Precision, device: torch.device) -> float:
    """This machine's FLOP a second in a large matrix product, best of several."""
    size = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def count_flop(iteration: EngineIteration) -> int:
    """FLOP of one iteration of the engine, as torch counts them."""
    objective = iteration.learners[1].objective
    assert isinstance(objective, Adversarial)
    view = objective.attacked
    now = view.now

    @contextmanager
    def counted() -> Iterator[Callable[[Tensor], Tensor]]:
        # The counter cannot follow a gradient to the very tensor that a module is called with.
        with now() as network:
            yield lambda images: network(images.view_as(images))

    # Zeros between images that lie side by side are no work that was asked for.
    with (
        mock.patch.object(view, "now", counted),
        mock.patch("zipper_dist.accel.side_by_side._gains", return_value=False),
        FlopCounterMode(display=False) as counter,
    ):
        iteration()
    return int(counter.get_total_flops())


def peak_memory(device: torch.device) -> int:
    """The most memory this process has had [bytes]: on the GPU, or resident in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def serve(
    pipe: Connection, setting: Setting, variant: Variant, device_type: str, threads: int
) -> None:
    """Run a variant in this process, a request at a time, until told to stop."""
    torch.set_num_threads(threads)
    device = torch.device(device_type)
    iteration: EngineIteration | ReferenceIteration
    if variant.precision is None:
        iteration = ReferenceIteration(setting, device)
    else:
        if device.type == "cpu":
            keep_freed_memory()
        iteration = EngineIteration(setting, variant, device)
    while (request := pipe.recv()) != "stop":
        answer: dict[str, Any]
        if request == "count flop":
            assert isinstance(iteration, EngineIteration)
            answer = {"flop": count_flop(iteration)}
        elif request == "memory":
            answer = {"bytes": peak_memory(device)}
        else:
            used = time.process_time()
            answer = iteration()
            answer["processor_seconds"] = time.process_time() - used
        pipe.send(answer)
