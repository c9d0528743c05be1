"""Puts the parts of a run together from its options."""

from __future__ import annotations

import copy

from torch import nn

from zipper_dist.accel.compilation import resolve_compile, work
from zipper_dist.accel.precision import Acceleration
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.schema import Precision, TrainConfig
from zipper_dist.data import Dataset, Loader, fetch, load
from zipper_dist.data.splits import limit_images
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.overlap import Overlap
from zipper_dist.distributed.signals import Signals
from zipper_dist.metrics.telemetry import MetricsReporter
from zipper_dist.models import ModelSpec, build
from zipper_dist.rng import seed_global_generators
from zipper_dist.training.async_validation import AsyncValidation
from zipper_dist.training.flat_state import FlatState
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.mixing import Mixer, mixing_weights
from zipper_dist.training.step_plan import StepPlan
from zipper_dist.training.trainer import Trainer
from zipper_dist.training.validation import Validator


def load_data(config: TrainConfig, world: World, wait: Overlap) -> Dataset:
    """The images; one rank of each machine fetches them, the others wait for it."""
    if world.plan.fetches_data:
        fetch(config.data)
    wait(world.gather("data is there", None))
    return load(config.data, config.seed)


def model_spec(config: TrainConfig, data: Dataset) -> ModelSpec:
    """The network that fits the data."""
    return ModelSpec(
        arch=config.model.arch,
        channels=data.channels,
        height=data.height,
        width=data.width,
        classes=data.classes,
        width_multiplier=config.model.width,
        activation=config.model.activation,
    )


def assemble(
    config: TrainConfig,
    directory: RunDirectory,
    data: Dataset,
    world: World,
    signals: Signals,
    wait: Overlap,
    metrics: MetricsReporter,
    precision: Precision,
) -> Trainer:
    """A trainer at iteration 0: every learner, and the global learner, start from the same θ_0."""
    device = world.plan.device
    loader = Loader(
        data.train.to(device),
        batch_size=config.batch_size,
        seed=config.seed,
        crop_padding=config.data.crop_padding,
        flip=config.data.flip,
    )
    plan = StepPlan.of(config, loader.steps_per_epoch)
    steps = plan.total_steps
    spec = model_spec(config, data)
    seed_global_generators(config.seed, "initial weights")
    model = build(spec).to(device)
    flop = work(config, model, (spec.channels, spec.height, spec.width), steps)
    compiled, note = resolve_compile(config.compile, device, spec.arch, flop)
    acceleration = Acceleration(precision, compiled)
    evaluator = Validator(
        copy.deepcopy(model),
        spec,
        limit_images(data.validation, config.eval.limit, "validation").to(device),
        config,
        directory.best,
        metrics.report,
    )
    return Trainer(
        config=config,
        directory=directory,
        world=world,
        signals=signals,
        wait=wait,
        plan=plan,
        loader=loader,
        learners=_learners(config, model, world, steps, acceleration),
        mixer=_mixer(config, model, world, steps),
        evaluator=evaluator,
        validation=AsyncValidation(world, wait, evaluator.look),
        metrics=metrics,
        engine_note=f"precision {precision}, {note}",
        compiled=compiled,
    )


def _learners(
    config: TrainConfig, model: nn.Module, world: World, steps: int, acceleration: Acceleration
) -> list[BaseLearner]:
    return [
        BaseLearner(
            name,
            copy.deepcopy(model),
            config.learners[name],
            seed=config.seed,
            total_steps=steps,
            acceleration=acceleration,
        )
        for name in world.plan.learners
    ]


def _mixer(config: TrainConfig, model: nn.Module, world: World, steps: int) -> Mixer:
    names = list(config.learners)
    return Mixer(
        FlatState(copy.deepcopy(model)).flat,
        learners=world.plan.learners,
        leader=names[0],
        weights=mixing_weights(config.mix, names, steps),
        decay=config.mix.ema,
    )
