"""Builds a run from its options."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from zipper_dist.accel.compilation import BREAK_EVEN, resolve_compile, work
from zipper_dist.accel.layout import needs_plain_layout
from zipper_dist.accel.precision import Acceleration
from zipper_dist.data import Dataset, Loader, fetch, load
from zipper_dist.data.memory import available_memory
from zipper_dist.data.splits import limit_images
from zipper_dist.errors import UserError
from zipper_dist.metrics.records import Window
from zipper_dist.models import ModelSpec, build
from zipper_dist.rng import seed_global_generators
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.flat_state import FlatState
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.loop import work_while_waiting
from zipper_dist.training.mixing import Mixer, mixing_weights
from zipper_dist.training.step_plan import StepPlan, evaluation_cost, fitting_batch_size
from zipper_dist.training.validation import AsyncValidation, Validator


def load_data(run: RunContext) -> Dataset:
    """The images; one rank of each machine fetches them, the others wait for it."""
    if run.world.plan.fetches_data:
        fetch(run.config.data)
    run.wait(run.world.gather("data is there", None))
    return load(run.config.data, run.config.seed)


def build_state(run: RunContext, data: Dataset) -> TrainState:
    """Iteration 0: every learner, and the global learner, start from the same θ_0."""
    config, device, names = run.config, run.device, run.world.plan.learners
    loader = Loader(
        data.train.to(device),
        batch_size=config.batch_size or fitting_batch_size(len(data.train)),
        seed=config.seed,
        crop_padding=config.data.crop_padding,
        flip=config.data.flip,
    )
    images = limit_images(data.validation, config.eval.limit, "validation").to(device)
    cost = evaluation_cost(config, len(images), loader.batch_size)
    plan = StepPlan.of(config, loader.steps_per_epoch, cost)
    spec = ModelSpec(
        arch=config.model.arch,
        channels=data.channels,
        height=data.height,
        width=data.width,
        classes=data.classes,
        width_multiplier=config.model.width,
        activation=config.model.activation,
    )
    refuse_giant(spec, copies=2 + 3 * len(names))
    seed_global_generators(config.seed, "initial weights")
    model = build(spec).to(device)
    image = (spec.channels, spec.height, spec.width)
    if loader.batch_size == 1:
        refuse_single_values(model, image)
    decides = (device.type, spec.arch) in BREAK_EVEN
    flop = work(config, model, image, plan.total_steps * loader.batch_size) if decides else 0.0
    compiled, note = resolve_compile(config.compile, device, spec.arch, flop)
    acceleration = Acceleration(run.precision, compiled, needs_plain_layout(model, image))
    validator = Validator(
        copy.deepcopy(model), spec, images, config, run.directory.best, run.metrics
    )
    learners = [
        BaseLearner(
            name,
            copy.deepcopy(model),
            config.learners[name],
            seed=config.seed,
            total_steps=plan.total_steps,
            acceleration=acceleration,
        )
        for name in names
    ]
    leader = next(iter(config.learners))
    weights = mixing_weights(config.mix, list(config.learners), plan.total_steps)
    mixer = Mixer(FlatState(model).flat, names, leader, weights, decay=config.mix.ema)
    notes = [*data.notes, f"precision {run.precision}, {note}"]
    if config.batch_size is None:
        notes.append(f"batch size {loader.batch_size}, for {len(data.train)} training images")
    if plan.redistributions == 0:
        notes.append(
            f"warning: --mix.start {config.mix.start} and --mix.every {config.mix.every} leave no "
            f"redistribution within the {plan.total_steps} iterations of this run: the global "
            "learner will be an average of networks that grow apart"
        )
    state = TrainState(
        plan=plan,
        loader=loader,
        learners=learners,
        mixer=mixer,
        validator=validator,
        validation=AsyncValidation(run.world, run.wait, validator.evaluate),
        windows={name: Window(name, loader.batch_size) for name in names},
        compiled=compiled,
        notes=notes,
    )
    run.wait.work = lambda: work_while_waiting(run, state)
    return state


def refuse_giant(spec: ModelSpec, copies: int) -> None:
    """Raise UserError where so many copies of a shipped network's weights, gradients and momenta
    cannot fit into memory."""
    if spec.is_from_outside:
        return
    with torch.device("meta"):  # nothing is allocated
        weights = sum(parameter.numel() for parameter in build(spec).parameters())
    needed, available = 4 * copies * weights, available_memory()
    if needed > available:
        raise UserError(
            f"--model.width {spec.width_multiplier:g}: training a {spec.arch} of {weights:,} "
            f"weights takes {needed / 2**30:,.1f} GiB of memory and more, of which "
            f"{available / 2**30:,.1f} GiB are available: give a smaller one"
        )


def refuse_single_values(model: nn.Module, image: Sequence[int]) -> None:
    """Raise UserError where a minibatch of one image of shape ``image`` (C, H, W) leaves BatchNorm
    a single value a channel, as on a map of 1×1."""
    device = next(model.parameters()).device
    try:
        copy.deepcopy(model).train()(torch.zeros(1, *image, device=device))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "--batch-size 1: a BatchNorm of this network gets a map of one pixel, and one value "
            "has no variance: give 2 or more, or larger images (--data.image-size)"
        ) from None
