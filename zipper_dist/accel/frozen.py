"""The state a network is attacked in: eval mode, weights frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen_eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` into eval mode with no parameter requiring a gradient, for the duration.

    Yields ``model``. On leaving, also by an exception, every module's training flag and every
    parameter's ``requires_grad`` is again what it was. The flags are set directly, not through
    ``train()``, which would set a whole subtree to one mode.
    """
    training = [(module, module.training) for module in model.modules()]
    requires_grad = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for module, was_training in training:
            if was_training:
                module.training = False
        for parameter, _ in requires_grad:
            parameter.requires_grad = False
        yield model
    finally:
        for module, was_training in training:
            if module.training != was_training:
                module.training = was_training
        for parameter, required in requires_grad:
            parameter.requires_grad = required
