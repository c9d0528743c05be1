"""The options of a training run: typed, each with its unit.

The dataclasses are what ``--help`` shows and what ``config.json`` holds. The values of a recipe
are in :mod:`zipper_dist.recipes`; :mod:`zipper_dist.config.checks` says what is out of range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zipper_dist.config.schedules import Interval, IntervalOption, Schedule, ScheduleOption
from zipper_dist.config.threat import Norm

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "tf32", "bf16"]
Architecture = Literal["small_cnn", "resnet18", "preact_resnet18", "wrn32_10"]
Activation = Literal["relu", "silu"]
AdversarialObjective = Literal["at", "trades", "fat", "mart"]

CONSTANT = Schedule(((0.0, 1.0),))

DEFAULT_BETA: Mapping[str, float] = {"trades": 6.0, "mart": 5.0}
"""β of TRADES (Zhang et al., 2019) and λ of MART (Wang et al., 2020) as published for CIFAR-10."""

DEFAULT_TAU = Schedule(((0.0, 0.0), (0.75, 3.0)))
"""τ of FAT: 0, 1, 2 and 3 in the quarters of the run (it is rounded down)."""


@dataclass(frozen=True)
class DataConfig:
    """The images."""

    source: Annotated[str, tyro.conf.Suppress] = "digits"
    """The data set, set by the recipe: digits, mnist, cifar10, cifar100, svhn or folder."""
    root: Path = Path("data")
    """Directory that holds the data sets, or is to hold them after their download; for the folder
    recipe, the directory that holds train/ and test/."""
    limit: int | None = None
    """Use only so many training images (and at most as many test images) [images]."""
    validation: str = "0.1"
    """Held out of the training set to choose the best weights: a fraction (0.1), a number of images
    (1000), or `test` to choose them on the test set, as the paper does."""
    image_size: int | None = None
    """Resize every image to this height and width [pixels]."""
    crop_padding: int = 0
    """Random crops of the image padded by so many black pixels on each side; 0 = none [pixels]."""
    flip: bool = False
    """Flip half of the images left to right, at random."""


@dataclass(frozen=True)
class ModelConfig:
    """The network; its input channels, image size and class count come from the data."""

    arch: Architecture = "small_cnn"
    """Architecture."""
    width: float = 1.0
    """Multiplies the number of channels of every layer."""
    activation: Activation = "relu"
    """What stands between the layers."""


@dataclass(frozen=True)
class AttackConfig:
    """The attack a learner trains against: PGD on the loss of its objective, images in [0, 1]."""

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
    schedule: ScheduleOption = CONSTANT
    """Multiplies eps and step size over the run [progress 0 … 1]. A ramp from a small value keeps
    training at a large eps from stalling."""


@dataclass(frozen=True)
class LearnerConfig:
    """A base learner: its SGD, its learning rate and how it changes."""

    objective: Annotated[str, tyro.conf.Suppress] = "natural"
    """How a minibatch becomes a loss."""
    label_smoothing: float = 0.0
    """Share of a label that is spread evenly over all classes, in the cross-entropy that is trained
    on; attacks are on the labels as they are."""
    lr: float = 0.1
    """Learning rate, before the schedule."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Weight decay of SGD."""
    nesterov: bool = False
    """Nesterov momentum."""
    schedule: ScheduleOption = CONSTANT
    """Multiplies the learning rate over the run [progress 0 … 1]."""
    weight_average: float = 0.0
    """Decay of an average of this learner's weights (WA) that is mixed in place of the weights
    themselves; 0 = off."""

    def resolved(self) -> LearnerConfig:
        """The same with the defaults of its objective filled in."""
        return self


@dataclass(frozen=True)
class AdversarialLearnerConfig(LearnerConfig):
    """A base learner that trains on attacked images."""

    objective: AdversarialObjective = "at"
    """How a minibatch becomes a loss: at (adversarial training), trades, fat (friendly adversarial
    training) or mart."""
    beta: float | None = None
    """Weight of the robustness term of trades (there it is 1/λ; default 6) and of mart (there it is
    λ; default 5)."""
    tau: ScheduleOption | None = None
    """fat: an image is attacked no further once it took this many steps while misclassified; over
    the run, rounded down; default: 0, 1, 2 and 3 in its quarters [steps, by progress 0 … 1]."""
    awp: float = 0.0
    """Adversarial weight perturbation: its size γ relative to the weights of a layer; 0 = off."""
    attack: AttackConfig = field(default_factory=AttackConfig)

    def resolved(self) -> AdversarialLearnerConfig:
        """The same with the defaults of its objective filled in."""
        beta, tau = self.beta, self.tau
        if beta is None:
            beta = DEFAULT_BETA.get(self.objective)
        if tau is None and self.objective == "fat":
            tau = DEFAULT_TAU
        return replace(self, beta=beta, tau=tau)


@dataclass(frozen=True)
class MixConfig:
    """The global learner: how the base learners are mixed and when they continue from it."""

    every: IntervalOption = Interval(5, True)
    """Redistribute the global learner to the base learners every so many iterations; 0 = never
    [iterations, or epochs as 5ep]."""
    start: IntervalOption = Interval(75, True)
    """First iteration at which redistribution is allowed [iterations, or epochs as 75ep]."""
    ema: float = 0.999
    """Decay α of the global learner's moving average."""
    gamma: ScheduleOption = CONSTANT
    """Mixing weight γ of the adversarial learner over the run; the natural learner has 1 - γ
    [progress 0 … 1]."""


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation of the global learner while it trains, and of all learners at the end."""

    every: IntervalOption = Interval(1, True)
    """Evaluate on the validation set, and save a checkpoint, every so many iterations
    [iterations, or epochs as 1ep]."""
    attack_steps: int = 20
    """Steps of the PGD attack of the evaluation."""
    norm: Norm | None = None
    """Norm of its perturbation; default: that of the attack trained against."""
    eps: float | None = None
    """Radius of its perturbation; default: that of the attack trained against [1 = the full pixel
    range]."""
    step_size: float | None = None
    """Length of its steps; default: 2.5 eps / steps [1 = the full pixel range]."""
    limit: int | None = None
    """Evaluate on only so many images of each set [images]."""
    batch_size: int = 128
    """Images in a minibatch of the evaluation [images]."""


@dataclass(frozen=True)
class TrainConfig:
    """Train Zipper: a natural and an adversarial learner, and a global learner that mixes them; or
    one learner by a method that it is compared with."""

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
    batch_size: int = 128
    """Images in a minibatch [images]."""
    device: Device = "auto"
    """Where to train; auto: a GPU for each rank where there are GPUs."""
    precision: Precision = "auto"
    """Arithmetic of training; auto: bf16 where the hardware multiplies it natively, else fp32.
    Weights, averages, losses and evaluation stay fp32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the networks (torch.compile); auto: where it was measured to pay for itself over the
    length of the run."""
    threads: int | None = None
    """CPU threads of each process; default: the cores of the machine over its processes."""
    resume: Literal["auto", "never"] = "auto"
    """auto: continue the run directory where there is something to continue; never: start over."""
    log_every: int = 10
    """Write a line of metrics for each learner every so many iterations [iterations]."""
    metrics: tuple[str, ...] = ("jsonl", "terminal")
    """Where metrics go: jsonl (metrics.jsonl in the run directory), terminal, or sinks of your own
    as package.module:Class or path/file.py:Class."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    learners: dict[str, LearnerConfig] = field(
        default_factory=lambda: {
            "natural": LearnerConfig(),
            "adversarial": AdversarialLearnerConfig(),
        }
    )
    eval: EvalConfig = field(default_factory=EvalConfig)

    def resolved(self) -> TrainConfig:
        """The same with what depends on other options filled in."""
        return replace(
            self, learners={name: learner.resolved() for name, learner in self.learners.items()}
        )
