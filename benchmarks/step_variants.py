"""The variants that ``bench_step`` compares, each an iteration that times its parts."""

from __future__ import annotations

import functools
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from reference import Reference
from reference import loader as reference_loader
from rich.console import Console
from step_settings import PARTS, Setting, Variant, images_for, plain
from torch import Tensor

from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.schema import AdversarialLearnerConfig, LearnerConfig, Precision
from zipper_dist.data import Loader
from zipper_dist.distributed.hardware import keep_freed_memory
from zipper_dist.metrics.telemetry import JsonLinesSink, Window
from zipper_dist.metrics.terminal import Progress
from zipper_dist.models import build
from zipper_dist.objectives import Adversarial
from zipper_dist.training.flat_state import FlatState
from zipper_dist.training.learner import BaseLearner, StepResult
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
        self.journal = JsonLinesSink(Path(tempfile.mkdtemp()) / "metrics.jsonl")
        nowhere = Path(os.devnull).open("w")  # noqa: SIM115 (as long as the process)
        terminal = Console(file=nowhere, force_terminal=True)
        self.progress = Progress(learners, 1000, 0, terminal)
        self.progress.__enter__()

    def report(self, t: int, shown: list[StepResult]) -> None:
        """Take up an iteration of every learner."""
        for window, result in zip(self.windows, shown, strict=True):
            window.add(t, result, 1.0)
            record = window.close()
            assert record is not None
            record |= {"lr": 0.1, "gamma": 0.5, "epoch": 0.0, "wait_seconds": 0.0}
            self.journal.append(record)
            self.progress.update(record)


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
            "natural": LearnerConfig(lr=0.01),
            "adversarial": AdversarialLearnerConfig(lr=0.01, attack=setting.attack),
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
        attack = self.attack_seconds
        parts = (attack, adversarial - attack, natural, mixing, data, rest)
        return {"seconds": marks[-1] - marks[0], **dict(zip(PARTS, parts, strict=True))}


class ReferenceIteration:
    """One iteration of the plain reference."""

    def __init__(self, setting: Setting, device: torch.device) -> None:
        torch.manual_seed(0)
        attack = setting.attack
        self.device = device
        self.eps = attack.eps
        self.reference = Reference(
            plain(build(setting.spec)).to(device), (0.01, 0.01), (5e-4, 5e-4),
            attack.eps, attack.step_size, attack.steps, gamma=0.5, decay=0.999,
        )  # fmt: skip
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
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "data": data, **self.reference.parts}


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


def peak_memory(device: torch.device) -> int:
    """The most memory this process has had [bytes]: on the GPU, or resident in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


_iteration: EngineIteration | ReferenceIteration


def prepare(setting: Setting, variant: Variant, device: torch.device, threads: int) -> None:
    """Make this process one that runs a variant."""
    global _iteration
    torch.set_num_threads(threads)
    if variant.precision is None:
        _iteration = ReferenceIteration(setting, device)
        return
    if device.type == "cpu":
        keep_freed_memory()
    _iteration = EngineIteration(setting, variant, device)


def iterate() -> dict[str, float]:
    """Run an iteration of this process's variant: seconds by part, and of the processor."""
    used = time.process_time()
    seconds = _iteration()
    return {**seconds, "processor_seconds": time.process_time() - used}
