"""The options of a training run, as ``--help`` shows them and ``config.json`` holds them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from zipper_dist.config import ranges
from zipper_dist.config.data import Augment, AugmentOption
from zipper_dist.config.data import DataConfig as DataConfig
from zipper_dist.config.iterations import IterationRange, IterationRangeOption
from zipper_dist.config.model import ModelConfig as ModelConfig
from zipper_dist.config.placement import PlacementConfig
from zipper_dist.config.schedules import (
    AUTO,
    Interval,
    IntervalOption,
    IntervalOrAutoOption,
    RateOption,
    Schedule,
    ScheduleOption,
    iterations,
    progress,
)
from zipper_dist.config.threat import Norm, ThreatModel, ThreatOption

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "tf32", "bf16"]
Start = Literal["uniform", "normal", "normal-uncut"]

CONSTANT = Schedule(((0.0, 1.0),))

SUM_TOLERANCE = 2e-6
"""How far the sum of mixing weights may be from 1: thirds may be written 0.333333."""


@dataclass(frozen=True)
class AttackConfig:
    """The attack that a learner trains against: PGD on the loss of its objective."""

    norm: Norm = "linf"
    """Norm of the perturbation."""
    eps: float = 8 / 255
    """Radius of the perturbation, in the norm [1 = the full pixel range]."""
    step_size: float = 0.007
    """Length of a step, in the norm [1 = the full pixel range]."""
    steps: int = 10
    """Gradient steps."""
    random_start: bool = True
    """Start at a random point of the ball."""
    start: Literal["auto", Start] = "auto"
    """Which: uniform, or 0.001 · N(0, 1) from the image (normal; -uncut: also out of [0, 1]); auto:
    normal for trades, else uniform."""
    schedule: ScheduleOption = CONSTANT
    """Multiplies eps and step size over the run [progress 0 … 1]."""

    def problems(self, option: str) -> Iterator[str]:
        """What is out of range, as lines that begin with ``option`` and the field's name."""
        yield from ThreatModel(self.norm, self.eps).problems(f"{option}.eps {self.eps}")
        yield from ranges.length(f"{option}.step-size", self.step_size)
        yield from ranges.at_least_one(f"{option}.steps", self.steps)
        yield from ranges.values(f"{option}.schedule", self.schedule, 1)
        if self.start != "auto" and not self.random_start:
            yield f"{option}.start {self.start}: leave out {option}.no-random-start"


@dataclass(frozen=True)
class LearnerConfig:
    """A base learner; each objective adds its options in a subclass."""

    objective: str = "natural"
    """How a minibatch becomes a loss: natural (no attack), at (adversarial training), trades, fat,
    mart, hat, ikl, lbgat, rsfgsm, nfgsm, score, package.module:Class or path/file.py:Class."""
    lr: float = 0.1
    """Learning rate, before the schedule."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer; adamw, for transformers, takes learning rates of some 0.001."""
    momentum: float = 0.9
    """Momentum of SGD, β₁ of AdamW."""
    beta2: float = 0.999
    """β₂ of AdamW."""
    weight_decay: float = 5e-4
    """Weight decay."""
    nesterov: bool = False
    """Nesterov momentum."""
    schedule: RateOption = CONSTANT
    """Multiplies the learning rate over the run [progress 0 … 1]; also cosine[:RISE], one-cycle."""
    weight_average: float = 0.0
    """Decay of an average of the learner's weights that is mixed in their place; 0 = off."""
    keep_average: bool = False
    """Let the average outlive redistributions; else it starts over from the global learner."""
    augment: AugmentOption = Augment()
    """Further augmentations, for this learner alone; names as for data.augment."""

    takes_mixtures: ClassVar[bool] = False
    """Whether the objective also takes labels (B, classes), as images have that were mixed."""

    def threat(self) -> ThreatModel | None:
        """What the learner trains against; None if it attacks nothing."""
        return None

    def guided_by(self) -> tuple[str, Interval] | None:
        """The other learner, or the file of weights, whose logits the objective asks for; and the
        interval at which a learner is copied."""
        return None

    def passes(self) -> int:
        """The cost of an iteration, in forward passes over the minibatch."""
        return 3

    def problems(self, option: str) -> Iterator[str]:
        """What is out of range, as lines that begin with ``option`` and the field's name."""
        yield from ranges.number(f"{option}.lr", self.lr, 0, 1e3)
        yield from ranges.below_one(f"{option}.momentum", self.momentum)
        yield from ranges.below_one(f"{option}.weight-average", self.weight_average)
        if self.keep_average and self.weight_average == 0:
            yield f"{option}.keep-average: takes {option}.weight-average above 0"
        yield from ranges.number(f"{option}.weight-decay", self.weight_decay, 0, 1e3)
        yield from ranges.below_one(f"{option}.beta2", self.beta2)
        if self.nesterov and (self.momentum == 0 or self.optimizer != "sgd"):
            yield f"{option}.nesterov: takes {option}.optimizer sgd, {option}.momentum above 0"
        yield from ranges.values(f"{option}.schedule", self.schedule)


@dataclass(frozen=True)
class AttackedLearnerConfig(LearnerConfig):
    """A base learner that trains on attacked images."""

    awp: float = 0.0
    """Adversarial weight perturbation: its size γ relative to the weights of a layer; 0 = off."""
    attack: AttackConfig = field(default_factory=AttackConfig)

    def threat(self) -> ThreatModel:
        """Norm and radius of the attack."""
        return ThreatModel(self.attack.norm, self.attack.eps)

    def passes(self) -> int:
        """A training step, and two passes for each step of the attack."""
        return super().passes() + 2 * self.attack.steps

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.number(f"{option}.awp", self.awp, 0, 1)
        yield from self.attack.problems(f"{option}.attack")


@dataclass(frozen=True)
class MixConfig:
    """The global learner: how the base learners are mixed and when they continue from it."""

    every: IntervalOption = progress(5 / 120)
    """Interval between redistributions; 0 = never [iterations, epochs as 5ep, part of the run]."""
    start: IntervalOption = progress(75 / 120)
    """First redistribution [iterations, epochs as 75ep, part of the run as 0.625]."""
    window: IntervalOption = iterations(1)
    """Redistribute after each of so many last iterations of every interval [iterations, 1ep]."""
    ema: float = 0.999
    """Decay α of the global learner's moving average."""
    first_count: Literal[0, 1] = 1
    """The n of the first iteration in the decay of averages, min(α, (1 + n) / (10 + n))."""
    gamma: ScheduleOption = CONSTANT
    """Mixing weight γ of the second of two learners; the first has 1 - γ [progress 0 … 1]."""
    weights: dict[str, ScheduleOption] = field(default_factory=dict)
    """Mixing weight of each learner, in place of gamma; their sum must be 1 [progress 0 … 1]."""

    def mixing_weights(self, names: Sequence[str]) -> Mapping[str, Callable[[float], float]]:
        """w_a by progress 0 … 1 for the learners ``names``; ValueError if there are problems."""
        if len(names) == 1:
            return {names[0]: CONSTANT}
        if set(self.weights) == set(names):
            return {name: self.weights[name] for name in names}
        if self.weights or len(names) != 2:
            raise ValueError(next(self.problems(names)))
        first, second = names
        return {first: lambda progress: 1.0 - self.gamma(progress), second: self.gamma}

    def problems(self, names: Sequence[str]) -> Iterator[str]:
        """What is wrong with the options for the learners ``names``."""
        yield from ranges.below_one("--mix.ema", self.ema, 0.9999999)
        if self.window.amount == 0:
            yield f"--mix.window {self.window}: give 1 iteration or more; --mix.every 0 is never"
        elif self.every.amount == 0 and self.window != iterations(1):
            yield f"--mix.window {self.window}: give --mix.every too; with 0 nothing is handed back"
        yield from ranges.values("--mix.gamma", self.gamma, 1)
        if self.weights or len(names) > 2:
            yield from self._problems_of_weights(names)

    def _problems_of_weights(self, names: Sequence[str]) -> Iterator[str]:
        weights, listed = self.weights, ", ".join(names)
        for name in [*weights, *names]:
            if name not in names:
                yield f"--mix.weights.{name}: the learners are {listed}"
                return
            if name not in weights:
                wanted = f"give every learner ({listed}) a schedule; their sum must be 1"
                yield f"--mix.weights.{name}: {wanted}; --mix.gamma is for two learners"
                return
        for name, weight in weights.items():
            yield from ranges.values(f"--mix.weights.{name}", weight, 1)
        # Between two of these points all are straight lines, and so is their sum.
        for at in sorted({0.0, 1.0, *(at for w in weights.values() for at, _ in w.points)}):
            total = sum(weight(at) for weight in weights.values())
            if abs(total - 1) > SUM_TOLERANCE:
                terms = " + ".join(f"{name} {weight(at):g}" for name, weight in weights.items())
                yield f"--mix.weights: their sum at progress {at:g} is {total:g} ({terms}), not 1"
                return


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation of the global learner while it trains, and of all learners at the end."""

    every: IntervalOrAutoOption = AUTO
    """Interval between validations and checkpoints [iterations, epochs (1ep), part of the run];
    auto: an epoch, or more, so that validations take a tenth of the run at most."""
    attack_steps: int = 20
    """Steps of the PGD attack of the evaluation."""
    threats: tuple[ThreatOption, ...] = ()
    """What to evaluate against (linf:8/255 l2:0.5); default: eval.norm and eps, or as trained."""
    norm: Norm | None = None
    """Norm of the perturbation; default: as trained."""
    eps: float | None = None
    """Its radius; default: as trained [1 = the full pixel range]."""
    step_size: float | None = None
    """Length of a step; default: 2.5 eps / steps [1 = the full pixel range]."""
    best_clean: float = 0.0
    """Choose the best weights among those of so much clean accuracy, if there are any [%]."""
    limit: int | None = None
    """Evaluate on only so many images of each set [images]."""
    batch_size: int = 128
    """Images in a minibatch of the evaluation [images]."""

    def problems(self) -> Iterator[str]:
        """What is out of range, except for the threat models."""
        yield from ranges.at_least_one("--eval.attack-steps", self.attack_steps)
        yield from ranges.at_least_one("--eval.limit", self.limit)
        yield from ranges.at_least_one("--eval.batch-size", self.batch_size)
        if self.every.amount == 0:
            yield f"--eval.every {self.every}: give 1 iteration or more"
        yield from ranges.length("--eval.step-size", self.step_size)
        yield from ranges.number("--eval.best-clean", self.best_clean, 0, 100)


@dataclass(frozen=True)
class TrainConfig:
    """Train Zipper: several base learners, such as a natural and an adversarial one, and a global
    learner that mixes them; or one learner by a method that it is compared with."""

    recipe: Annotated[str, tyro.conf.Suppress] = "digits"
    """Name of the recipe that the defaults come from."""
    run_dir: Path | None = None
    """Directory for everything the run leaves behind; default: runs/<recipe>-seed<seed>."""
    seed: int = 0
    """Seed of every random draw."""
    epochs: int = 30
    """Passes over the training set [epochs]."""
    steps: int | None = None
    """Length of the run in place of --epochs; every schedule spans the run [iterations]."""
    schedules_by: Literal["iteration", "epoch"] = "iteration"
    """When schedules move on; epoch: to where they are at its end, and stay there throughout it."""
    batch_size: int | None = 128
    """Images in a minibatch; None: 128, or fewer for few images [images]."""
    device: Device = "auto"
    """Where to train; auto: on a GPU for each rank if there are GPUs."""
    precision: Precision = "auto"
    """Arithmetic of the networks in training; auto: bf16 if the hardware has it, else fp32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the networks (torch.compile); auto: if that pays for itself within the run."""
    threads: int | None = None
    """CPU threads of each process; default: an equal share of the cores."""
    timeout: float = 600.0
    """End the job if a rank is not heard of for so long; one that works is, however long it works
    [seconds]."""
    resume: Literal["auto", "never"] = "auto"
    """auto: continue the run in the run directory, if there is one; never: start over, but for
    restarts by torchrun or SLURM, which continue."""
    log_every: int = 10
    """Interval between lines of metrics [iterations]."""
    metrics: tuple[str, ...] = ("jsonl", "terminal")
    """Where metrics go: jsonl, csv, tensorboard, wandb (files of the run), terminal,
    package.module:Class or path/file.py:Class."""
    trace: IterationRangeOption = IterationRange()
    """Write what every rank does in these iterations, and when, to trace-RANK.json [iterations]."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    learners: dict[str, LearnerConfig] = field(default_factory=dict)
    eval: EvalConfig = field(default_factory=EvalConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)

    @property
    def first_learner(self) -> str:
        """The learner with whose share and checkpoints goes what a run has once, such as θ_g."""
        return next(iter(self.learners))

    def passes(self) -> int:
        """The cost of an iteration of all learners, in forward passes over the minibatch."""
        return sum(learner.passes() for learner in self.learners.values())

    def threats(self) -> tuple[ThreatModel, ...]:
        """What the run is evaluated against: as its options say, or else as its learners train."""
        if self.eval.threats:
            return self.eval.threats
        trained = [learner.threat() for learner in self.learners.values()]
        found = tuple(dict.fromkeys(threat for threat in trained if threat is not None))
        if self.eval.eps is not None:
            norm = self.eval.norm or (found[0].norm if found else "linf")
            return (ThreatModel(norm, self.eval.eps),)
        return tuple(threat for threat in found if self.eval.norm in (None, threat.norm))
