"""The state a network is attacked in: eval mode, weights frozen."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn


@contextmanager
def frozen_eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """For the duration, ``model`` is in eval mode and no parameter requires a gradient; afterwards
    every flag is what it was, also where the modes of its modules differ."""
    with ExitStack() as restored:
        for module in model.modules():
            restored.callback(setattr, module, "training", module.training)
            module.training = False
        for parameter in model.parameters():
            restored.callback(setattr, parameter, "requires_grad", parameter.requires_grad)
            parameter.requires_grad = False
        yield model
