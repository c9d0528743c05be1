"""What ``bench_step`` compares: settings, and an iteration of every variant, its parts timed."""

from __future__ import annotations

import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from reference import PlainOptions, Reference, pgd
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from zipper_dist.accel.compilation import forward_flop
from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.schema import AttackConfig, Precision
from zipper_dist.data import ImageSet, Loader, Minibatch
from zipper_dist.distributed.hardware import keep_freed_memory
from zipper_dist.models import ModelSpec, build
from zipper_dist.objectives import LearnerSteps, StepContext
from zipper_dist.objectives.at import Adversarial, AtConfig
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.flat_state import FlatState
from zipper_dist.training.mixing import Mixer

PARTS = ("attack", "adversarial step", "natural step", "mixing", "data")
"""What an iteration consists of."""


@dataclass(frozen=True)
class Variant:
    """Precision of the engine (None: the plain reference), and whether it compiles."""

    precision: Precision | None
    compiled: bool = False


@dataclass(frozen=True)
class Setting:
    """A network, its minibatch and the attack."""

    spec: ModelSpec
    batch_size: int
    attack: AttackConfig

    def quick(self) -> Setting:
        """The same with two images and two gradient steps."""
        return replace(self, batch_size=2, attack=replace(self.attack, steps=2))

    def images(self) -> ImageSet:
        """Random images: time does not depend on what they show."""
        generator, spec = torch.Generator().manual_seed(0), self.spec
        shape = (4 * self.batch_size, spec.channels, spec.height, spec.width)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, spec.classes, shape[:1], generator=generator)
        return ImageSet(images, labels)

    def flop(self) -> int:
        """FLOP of an iteration: a step of training is three passes, one of the attack two."""
        image = (self.spec.channels, self.spec.height, self.spec.width)
        passes = 3 + 3 + 2 * self.attack.steps
        return self.batch_size * passes * forward_flop(build(self.spec), image)


_CIFAR_ATTACK = AttackConfig(eps=8 / 255, step_size=0.007, steps=10)
_MNIST_ATTACK = AttackConfig(eps=0.3, step_size=0.01, steps=40)
NETWORKS = {
    "resnet18": Setting(ModelSpec("resnet18", 3, 32, 32, 10), 128, _CIFAR_ATTACK),
    "small_cnn": Setting(ModelSpec("small_cnn", 1, 28, 28, 10), 128, _MNIST_ATTACK),
    "wrn32_10": Setting(ModelSpec("wrn32_10", 3, 32, 32, 10), 8, _CIFAR_ATTACK),
}


class Iteration(ABC):
    """Serial Zipper, an iteration a call, of images that are not augmented."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.t = device, 0
        self.parts: dict[str, float] = {}

    def __call__(self) -> dict[str, float]:
        """Run an iteration: its seconds, those of the processor, and those of each part."""
        self.t += 1
        begin, used = time.perf_counter(), time.process_time()
        self.run()
        seconds, busy = time.perf_counter() - begin, time.process_time() - used
        return {"seconds": seconds, "processor_seconds": busy, **self.parts}

    @abstractmethod
    def run(self) -> None:
        """Run iteration ``t``, each part of it :meth:`timed`."""

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Note how long a part takes, until the device has done it."""
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.parts[part] = time.perf_counter() - start


class EngineIteration(Iteration):
    """One iteration as zipper_dist.train runs it."""

    def __init__(self, setting: Setting, variant: Variant, device: torch.device) -> None:
        super().__init__(device)
        assert variant.precision is not None
        engine = Acceleration(variant.precision, variant.compiled)
        self.loader = Loader(setting.images().to(device), setting.batch_size, 0)
        natural, adversarial = NaturalConfig(lr=0.01), AtConfig(lr=0.01, attack=setting.attack)
        model = build(setting.spec)
        self.natural, self.adversarial = (
            BaseLearner(LearnerSteps(name, 0, 1000), build(setting.spec).to(device), config, engine)
            for name, config in (("natural", natural), ("adversarial", adversarial))
        )
        theta, weights = FlatState(model.to(device)).flat, {"natural": 0.5, "adversarial": 0.5}
        for learner in (self.natural, self.adversarial):
            learner.load_global(theta)
        self.mixer = Mixer(theta, list(weights), "natural", lambda t: weights, 0.999)
        objective = self.adversarial.objective
        assert isinstance(objective, Adversarial)
        perturb = objective.perturb

        def timed_perturb(batch: Minibatch, context: StepContext) -> Tensor:
            with self.timed("attack"):
                return perturb(batch, context)

        objective.perturb = timed_perturb  # type: ignore[method-assign]

    def run(self) -> None:
        """See :class:`Iteration`."""
        with self.timed("data"):
            batch = self.loader.minibatch(self.t)
        with self.timed("natural step"):
            self.natural.step(batch, self.t)
        with self.timed("adversarial step"):
            self.adversarial.step(batch, self.t)
        self.parts["adversarial step"] -= self.parts["attack"]
        learners = {each.name: each.mixable for each in (self.natural, self.adversarial)}
        with self.timed("mixing"):
            self.mixer.accumulate(self.t, learners)


def endless(loader: DataLoader[tuple[Tensor, ...]]) -> Iterator[list[Tensor]]:
    """Minibatches, epoch after epoch."""
    while True:
        yield from loader


class ReferenceIteration(Iteration):
    """One iteration of the plain reference."""

    def __init__(self, setting: Setting, device: torch.device) -> None:
        super().__init__(device)
        self.attack = setting.attack
        options = PlainOptions(setting.attack)
        self.reference = Reference(build(setting.spec).to(device), options)
        images = setting.images()
        data = TensorDataset(images.images.float() / 255, images.labels)
        self.batches = endless(DataLoader(data, setting.batch_size, shuffle=True))

    def run(self) -> None:
        """See :class:`Iteration`."""
        reference = self.reference
        with self.timed("data"):
            x, y = (tensor.to(self.device) for tensor in next(self.batches))
        with self.timed("attack"):
            start = x + self.attack.eps * (2 * torch.rand_like(x) - 1)
            x_adv = pgd(reference.adversarial, x, y, self.attack, start)
        with self.timed("adversarial step"):
            reference.train(reference.adversarial, x_adv, y)
        with self.timed("natural step"):
            reference.train(reference.natural, x, y)
        with self.timed("mixing"):
            reference.mix(self.t)


_iteration: Iteration


def prepare(setting: Setting, variant: Variant, device: torch.device, threads: int) -> None:
    """Make this process one that runs a variant."""
    global _iteration
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if variant.precision is None:
        _iteration = ReferenceIteration(setting, device)
        return
    if device.type == "cpu":
        keep_freed_memory()
    _iteration = EngineIteration(setting, variant, device)


def iterate() -> dict[str, float]:
    """Run an iteration of this process's variant."""
    return _iteration()


def peak_memory(device: torch.device) -> int:
    """The most memory this process has had [bytes]: on the GPU, or resident in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
