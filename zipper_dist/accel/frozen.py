"""The state a network is attacked in: eval mode, weights frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn


@contextmanager
def frozen_eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Yield ``model`` in eval mode with no parameter requiring a gradient, for the duration.

    Afterwards every module's training flag and every parameter's ``requires_grad`` is what it was.
    The flags are set one by one, since ``train()`` would set a whole subtree to one mode.
    """
    with ExitStack() as restored:
        for module in model.modules():
            restored.callback(setattr, module, "training", module.training)
            module.training = False
        for parameter in model.parameters():
            restored.callback(setattr, parameter, "requires_grad", parameter.requires_grad)
            parameter.requires_grad = False
        yield model
