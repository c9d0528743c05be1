"""The gradient of a learner's loss on a minibatch, shard by shard."""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from zipper_dist.accel.precision import Acceleration
from zipper_dist.activity import doing
from zipper_dist.data import Minibatch
from zipper_dist.metrics.records import StepResult
from zipper_dist.objectives import Objective, StepContext, state_of
from zipper_dist.rng import seed_global_generators
from zipper_dist.training.learner.shards import ShardMean, Shards
from zipper_dist.training.learner.weight_perturbation import WeightPerturbation

Sums = Generator[Tensor, None, StepResult]
"""Yields sums over the shards of a process (1-D), as the processes of the other shards do
at the same time; before it goes on, each must hold the sum over all shards."""


@dataclass(frozen=True)
class _Part:
    """A shard as it is trained on."""

    context: StepContext
    batch: Minibatch
    images: Tensor  # attacked, if the objective attacks


class MinibatchGradient:
    """Leaves the gradient of ``objective`` in the parameters of ``model``.

    Every shard is attacked, and run forward and backward, from the same weights and the same
    buffers; gradient and running statistics are the means over the shards. ``network`` is the model
    as a training step calls it; ``awp`` is the size of the weight perturbation, 0 for none.
    """

    def __init__(
        self,
        model: nn.Module,
        network: nn.Module,
        objective: Objective,
        acceleration: Acceleration,
        shards: Shards,
        awp: float,
    ) -> None:
        self._network = network
        self._objective = objective
        self._acceleration = acceleration
        self._shards = shards
        self._parameters = list(model.parameters())
        self._model_buffers = list(model.buffers())
        perturbation = WeightPerturbation(model, awp)
        self._perturbation = perturbation if awp > 0 and perturbation.weights else None
        if self._perturbation is not None:
            self._weights_mean = ShardMean(perturbation.weights, shards.count)

    # Of these, the objective has its part only once it has attacked the first minibatch.
    @cached_property
    def _buffers(self) -> list[Tensor]:
        return [*self._model_buffers, *state_of(self._objective).values()]

    @cached_property
    def _statistics(self) -> list[Tensor]:
        return [buffer for buffer in self._buffers if buffer.is_floating_point()]

    @cached_property
    def _mean(self) -> ShardMean | None:
        figures = torch.zeros(2, device=self._parameters[0].device)  # loss, right answers
        averaged = [*self._parameters, *self._statistics, figures]
        return ShardMean(averaged, self._shards.count) if self._shards.count > 1 else None

    def sums(self, batch: Minibatch, context: StepContext) -> Sums:
        """The gradient on the shards of this process, while others have the others."""
        parts = [
            self._attacked(replace(context, shard=number), shard)
            for number, shard in self._shards.of(batch)
        ]
        if self._perturbation is None:
            return (yield from self._descent(parts))
        direction = yield from self._ascent(parts, self._perturbation.weights)
        with self._perturbation.along(direction):
            return (yield from self._descent(parts))

    def _attacked(self, context: StepContext, shard: Minibatch) -> _Part:
        seed_global_generators(*context.address("modules"))
        with self._acceleration.arithmetic(), _working_on(context):
            return _Part(context, shard, self._objective.perturb(shard, context))

    def _ascent(
        self, parts: Sequence[_Part], weights: Sequence[Tensor]
    ) -> Generator[Tensor, None, list[Tensor]]:
        """The gradient for ``weights``; the buffers stay as they are."""
        before = [buffer.clone() for buffer in self._buffers]
        self._weights_mean.clear()
        for part in parts:
            with self._acceleration.arithmetic(), _working_on(part.context):
                loss, _ = self._loss(part, "modules of awp")
                # A network of one's own may have weights that do nothing.
                gradients = torch.autograd.grad(
                    loss, weights, allow_unused=True, materialize_grads=True
                )
            self._weights_mean.add(gradients)
            _copy(self._buffers, before)
        del gradients  # with CUDA graphs, another learner's attack may reuse their memory now
        yield self._weights_mean.buffer
        means = [torch.empty_like(weight) for weight in weights]
        self._weights_mean.copy_to(means)
        return means

    def _descent(self, parts: Sequence[_Part]) -> Sums:
        """The gradient for the parameters, in them; the buffers follow. Parameters without gradient
        and integer buffers must be the same for every shard."""
        if self._mean is None:
            return self._backward(parts[0])
        before = [buffer.clone() for buffer in self._buffers]
        self._mean.clear()
        for part in parts:
            _copy(self._buffers, before)
            result = self._backward(part)
            gradients = [parameter.grad for parameter in self._parameters]
            figures = torch.stack([result.loss.double(), result.correct.double()])
            self._mean.add([*gradients, *self._statistics, figures])
            # With CUDA graphs, another learner's attack may reuse their memory.
            for parameter in self._parameters:
                parameter.grad = None
        used = [gradient is not None for gradient in gradients]
        del gradients
        yield self._mean.buffer
        for parameter, has_gradient in zip(self._parameters, used, strict=True):
            parameter.grad = torch.empty_like(parameter) if has_gradient else None
        gradients = [parameter.grad for parameter in self._parameters]
        self._mean.copy_to([*gradients, *self._statistics, figures])
        return StepResult(figures[0], figures[1] * self._shards.count)

    def _backward(self, part: _Part) -> StepResult:
        with self._acceleration.arithmetic(), _working_on(part.context):
            loss, logits = self._loss(part, "modules")
            loss.backward()  # type: ignore[no-untyped-call]
        correct = (logits.detach().argmax(1) == part.batch.classes).sum()
        return StepResult(loss.detach(), correct)

    def _loss(self, part: _Part, purpose: str) -> tuple[Tensor, Tensor]:
        seed_global_generators(*part.context.address(purpose))
        return self._objective.loss(self._network, part.batch, part.images)


def _working_on(context: StepContext) -> AbstractContextManager[None]:
    return doing("training step", shard=context.shard or 0)


def _copy(there: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    if there:  # a network may have no buffers
        torch._foreach_copy_(list(there), list(values))
