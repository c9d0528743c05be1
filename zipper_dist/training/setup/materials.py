"""What a run is built from: images, minibatches, network and plan."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from zipper_dist.accel.compilation import BREAK_EVEN, resolve_compile, work
from zipper_dist.accel.layout import needs_plain_layout
from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.schema import TrainConfig
from zipper_dist.data import Dataset, ImageSet, Loader, Share, fetch, load
from zipper_dist.data.minibatches.moves import default_padding
from zipper_dist.data.splits import limit_images
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec
from zipper_dist.objectives import LearnerSteps
from zipper_dist.training.context import RunContext
from zipper_dist.training.guides import give_guide
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.shards import Shards
from zipper_dist.training.setup.augmenting import augmenters
from zipper_dist.training.setup.network import initial_network
from zipper_dist.training.setup.placed_images import described, placed
from zipper_dist.training.step_plan import StepPlan, evaluation_cost, fitting_batch_size


def load_data(run: RunContext) -> Dataset:
    """The images; one rank of each machine fetches them, the others wait for it. UserError if the
    ranks read other images than rank 0."""
    if run.world.plan.fetches_data:
        fetch(run.config.data)
    # A run that is continued keeps its size, which may have come from images that are gone.
    was = run.wait(run.world.gather("data is there", run.directory.image_size()))[0]
    config = run.config.data
    data = load(replace(config, image_size=config.image_size or was), run.config.seed)
    digests = run.wait(run.world.gather("images", data.digest()))
    if others := [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]:
        extra = "" if data.extra is None else f" or --data.extra {run.config.data.extra}"
        raise UserError(
            f"rank {', '.join(others)} sees other images than rank 0 in --data.root "
            f"{run.config.data.root}{extra}: give all machines the same files, and see to it that "
            "each can read them all"
        )
    return replace(data, notes=(*data.notes, *run.directory.notes_on_images(digests[0])))


@dataclass(frozen=True)
class Materials:
    """What a run is built from, whichever ranks train what."""

    loader: Loader
    plan: StepPlan
    spec: ModelSpec
    model: nn.Module  # θ_0
    acceleration: Acceleration
    validation: ImageSet
    notes: list[str]  # for the user
    costs: list[Mapping[str, float]] = field(default_factory=list)  # measured, by rank [s]

    def learner(self, name: str, config: TrainConfig, shards: Shards = Shards()) -> BaseLearner:
        """A learner at iteration 0, to train on ``shards``."""
        learner = BaseLearner(
            LearnerSteps(
                name,
                config.seed,
                self.plan.total_steps,
                self.plan.schedules_held,
                config.mix.first_count,
            ),
            copy.deepcopy(self.model),
            config.learners[name],
            self.acceleration,
            shards,
            augmenters(config, name, self.spec.classes),
        )
        give_guide(learner, config, self.model, self.spec)
        return learner


def prepare(run: RunContext, data: Dataset) -> Materials:
    """Minibatches, network and plan."""
    config, device = run.config, run.device
    extra = Share(data.extra, config.data.extra_fraction) if data.extra is not None else None
    named = config.data.augment.names
    padding = default_padding(data.train.images) if "crop" in named else 0
    train = placed(data.train, config.data, device)
    loader = Loader(
        train,
        batch_size=config.batch_size or fitting_batch_size(len(data.train)),
        seed=config.seed,
        crop_padding=config.data.crop_padding or padding,
        flip=config.data.flip or "flip" in named,
        extra=extra,
    )
    images = limit_images(data.validation, config.eval.limit, "validation")
    images = placed(images, config.data, device)
    cost = evaluation_cost(config, len(images), loader.batch_size)
    plan = StepPlan.of(config, loader.steps_per_epoch, cost)
    if problem := config.trace.problem("--trace", plan.total_steps):
        raise UserError(problem)
    spec, model, notes = initial_network(run, data)
    image = (spec.channels, spec.height, spec.width)
    decides = (device.type, spec.arch) in BREAK_EVEN
    flop = work(config, model, image, plan.total_steps * loader.batch_size) if decides else 0.0
    compiled, note = resolve_compile(config.compile, device, spec.arch, flop)
    acceleration = Acceleration(run.precision, compiled, needs_plain_layout(model, image))
    notes = [*data.notes, *notes, f"precision {run.precision}, {note}"]
    notes.append(described(train, config.data))
    if config.batch_size is None:
        notes.append(f"batch size {loader.batch_size}, for {len(data.train)} training images")
    if plan.redistributions == 0:
        notes.append(
            f"warning: --mix.start {config.mix.start} and --mix.every {config.mix.every} leave no "
            f"redistribution within the {plan.total_steps} iterations of this run: the global "
            "learner will be an average of networks that grow apart"
        )
    if plan.schedules_held > 1 and plan.total_steps < 2 * plan.schedules_held:
        notes.append(
            f"warning: --schedules-by epoch: the {plan.total_steps} iterations here are less than "
            f"two epochs of {plan.schedules_held}, the last of which has the learning rates and "
            "mixing weights of the schedules' ends"
        )
    return Materials(loader, plan, spec, model, acceleration, images, notes)
