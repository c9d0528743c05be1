"""The base learner: a network, its objective, its optimizer and its schedules."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.schema import LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.data.minibatches import Augmenter
from zipper_dist.metrics.records import StepResult
from zipper_dist.objectives import LearnerSteps, make_objective, state_of
from zipper_dist.objectives.guided import Guided, frozen_guide
from zipper_dist.training.learner.flat_state import FlatState
from zipper_dist.training.learner.gradient import MinibatchGradient, Sums
from zipper_dist.training.learner.optimizers import make_optimizer, restore, tensors_of
from zipper_dist.training.learner.shards import Shards


def ema_decay(decay: float, t: int, first_count: int = 1) -> float:
    """α_t = min(α, (1 + n) / (10 + n)), where n = t if the count starts at 1: a young average
    forgets its start quickly."""
    n = t - 1 + first_count
    return min(decay, (1 + n) / (10 + n))


class BaseLearner:
    """One of the learners that a method mixes; it owns ``model``. The schedules span its ``steps``;
    ``shards`` are those of this process; ``augmenters`` change its minibatches."""

    def __init__(
        self,
        steps: LearnerSteps,
        model: nn.Module,
        config: LearnerConfig,
        acceleration: Acceleration = Acceleration(),
        shards: Shards = Shards(),
        augmenters: Sequence[Augmenter] = (),
    ) -> None:
        self.name = steps.learner
        self.config = config
        self.state = FlatState(model)
        self.model = acceleration.training_network(model)
        self.objective = make_objective(config, lambda: acceleration.attacked_network(model))
        self._gradient = MinibatchGradient(
            model, self.model, self.objective, acceleration, shards, getattr(config, "awp", 0.0)
        )
        self.optimizer = make_optimizer(model, config)
        self.average = self.state.flat.clone() if config.weight_average > 0 else None
        self.guide: FlatState | None = None
        """Where the weights of a learner that guides this one are copied to."""
        self._steps = steps
        self._augmenters = augmenters

    def lr(self, t: int) -> float:
        """The learning rate of iteration ``t``."""
        return self.config.lr * self.config.schedule(self._steps.at(t).progress)

    def step(self, batch: Minibatch, t: int) -> StepResult:
        """Train on one minibatch, iteration ``t``, of which this process has all shards."""
        sums = self.sums(batch, t)
        while True:
            try:
                next(sums)
            except StopIteration as end:
                result: StepResult = end.value
                return result

    def sums(self, batch: Minibatch, t: int) -> Sums:
        """Iteration ``t`` on the shards of this process, while others have the others."""
        for augment in self._augmenters:  # the whole minibatch, whichever shards are trained here
            batch = augment(batch, t)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(t)
        self.model.train()
        # Before the attack: its CUDA graph may reuse the memory of the last gradients.
        self.optimizer.zero_grad(set_to_none=True)
        result = yield from self._gradient.sums(batch, self._steps.at(t))
        self.optimizer.step()
        if self.average is not None:
            alpha = ema_decay(self.config.weight_average, t, self._steps.first_count)
            self.average.lerp_(self.state.flat, 1 - alpha)
        return result

    @property
    def mixable(self) -> Tensor:
        """What the global learner mixes: the flat weights, or their average (WA) if it is on."""
        return self.state.flat if self.average is None else self.average

    def distance(self, theta: Tensor) -> float:
        """The L2 distance to the global learner's flat weights."""
        return float(torch.linalg.vector_norm(self.state.flat - theta, dtype=torch.float64))

    def load_global(self, theta: Tensor) -> None:
        """Continue from the global learner's flat weights; the optimizer keeps its state."""
        self.state.flat.copy_(theta)
        if self.average is not None and not self.config.keep_average:
            self.average.copy_(theta)
        self.take_guide(theta)

    def take_guide(self, theta: Tensor) -> None:
        """Be guided by a network with these flat weights, if by a learner at all."""
        if self.guide is not None:
            assert isinstance(self.objective, Guided)
            self.guide.flat.copy_(theta)
            self.objective.guide = frozen_guide(self.guide.model)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an exact resume needs, by name."""
        tensors = {"theta": self.state.flat}
        tensors |= {f"integer/{name}": tensor for name, tensor in self.state.integers.items()}
        if self.average is not None:
            tensors["average"] = self.average
        if self.guide is not None and getattr(self.objective, "guide", None) is not None:
            tensors["guide"] = self.guide.flat
        tensors |= {f"objective/{name}": kept for name, kept in state_of(self.objective).items()}
        return tensors | tensors_of(self.optimizer)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`tensors` gave, before the first iteration here."""
        self.state.flat.copy_(tensors["theta"])
        self.state.load_integers({n: tensors[f"integer/{n}"] for n in self.state.integers})
        if self.average is not None:
            self.average.copy_(tensors["average"])
        if "guide" in tensors:
            self.take_guide(tensors["guide"])
        for name, kept in tensors.items():
            group, _, own = name.partition("/")
            if group == "objective":
                state_of(self.objective)[own] = kept.to(self.state.flat.device)
        restore(self.optimizer, list(self.state.model.parameters()), tensors)
