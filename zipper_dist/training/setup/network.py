"""The network at iteration 0, θ_0."""

from dataclasses import replace

from torch import nn

from zipper_dist.checkpoint.initial import initial_weights, is_remote, start_from
from zipper_dist.checkpoint.weights import checksum
from zipper_dist.config.model import AUTO_NORMALISE
from zipper_dist.data import Dataset
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec, build, check_network
from zipper_dist.models.sources.pretrained import Pretrained
from zipper_dist.rng import seed_global_generators
from zipper_dist.training.context import RunContext
from zipper_dist.training.learner.optimizers import state_tensors
from zipper_dist.training.setup.limits import refuse_giant


def initial_network(run: RunContext, data: Dataset) -> tuple[ModelSpec, nn.Module, list[str]]:
    """Its description, itself, and notes for the user. UserError where the options do not suit the
    images, or the ranks would start from different weights."""
    config, notes = run.config, []
    try:
        spec = ModelSpec(
            arch=config.model.arch,
            channels=data.channels,
            height=data.height,
            width=data.width,
            classes=data.classes,
            width_multiplier=config.model.width,
            activation=config.model.activation,
            options=config.model.keywords(),
            normalise=config.model.normalisation(data.channels),
            class_names=data.class_names,
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    alone = config.placement.mode == "dedicated" and run.world.size > 1
    # A learner has its weights, gradients, and what its optimizer keeps.
    copies = [2 + state_tensors(learner) for learner in config.learners.values()]
    refuse_giant(spec, 2 + (max(copies) if alone else sum(copies)), run.device)
    start = _start(run, spec)
    weights = str(config.model.weights)
    if config.model.normalise == AUTO_NORMALISE:
        spec = replace(spec, normalise=_normalisation_of(start, weights, spec.channels))
    elif start and start.normalise is not None and start.normalise != spec.normalise:
        notes.append(_contradiction(start.normalise, spec.normalise, weights))
    seed_global_generators(config.seed, "initial weights")
    model = build(spec)
    if spec.is_from_outside:
        check_network(model, spec)
    if start is not None:
        notes.append(start_from(model, start, weights))
    if spec.is_from_outside or start is not None:
        _check_ranks(run, model)
    return spec, model.to(run.device), notes


def _start(run: RunContext, spec: ModelSpec) -> Pretrained | None:
    """The weights to start from; one rank of each machine downloads them, the others wait."""
    weights = run.config.model.weights
    if weights is None:
        return None
    if is_remote(weights):
        if run.world.plan.fetches_data:
            initial_weights(weights, spec)
        run.wait(run.world.gather("weights are there", None))
    return initial_weights(weights, spec)


def _normalisation_of(start: Pretrained | None, weights: str, channels: int) -> tuple[float, ...]:
    if start is None or start.normalise is None:
        raise UserError(
            f"--model.normalise auto: {weights} do not say how images are normalised: give "
            "--model.normalise mean,std, or means and deviations of the channels"
        )
    if start.normalise and len(start.normalise) != 2 * channels:
        raise UserError(
            f"--model.normalise auto: {weights} say how {len(start.normalise) // 2} channels are "
            f"normalised, and images have {channels}: give --model.normalise mean,std"
        )
    return start.normalise


def _contradiction(theirs: tuple[float, ...], ours: tuple[float, ...], weights: str) -> str:
    """A warning of weights that were trained on images which were normalised differently."""
    were, are = (
        f"by {','.join(map(str, each))}" if each else "not at all" for each in (theirs, ours)
    )
    return (
        f"warning: --model.weights {weights} were trained on images normalised {were}, and "
        f"here they are normalised {are}: --model.normalise auto does as the weights need it"
    )


def _check_ranks(run: RunContext, model: nn.Module) -> None:
    """Raise UserError where a rank starts from other weights than rank 0: it reads another file, or
    the network draws random numbers from elsewhere than torch's global generator."""
    state = {n: t.detach().to("cpu", copy=False) for n, t in model.state_dict().items()}
    digests = run.wait(run.world.gather("initial weights", checksum(state)))
    if others := [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]:
        raise UserError(
            f"--model.arch {run.config.model.arch}: rank {', '.join(others)} has other initial "
            "weights than rank 0: give all ranks the same files, and draw random numbers from "
            "torch's global generator alone"
        )
