"""The optimizers of a learner, and what of them an exact resume needs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from zipper_dist.config.schema import LearnerConfig

SAVED = {
    "momentum_buffer": "momentum",
    "step": "step",
    "exp_avg": "first-moment",
    "exp_avg_sq": "second-moment",
}
"""The tensors that an optimizer keeps for a parameter, by the names that checkpoints have."""


def _sgd(parameters: Iterable[nn.Parameter], config: LearnerConfig, fused: bool) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        foreach=not fused,
        fused=fused,
    )


def _adamw(
    parameters: Iterable[nn.Parameter], config: LearnerConfig, fused: bool
) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=(config.momentum, config.beta2),
        weight_decay=config.weight_decay,
        foreach=not fused,
        fused=fused,
    )


Make = Callable[[Iterable[nn.Parameter], LearnerConfig, bool], torch.optim.Optimizer]
OPTIMIZERS: Mapping[str, Make] = {"sgd": _sgd, "adamw": _adamw}
"""By the names that ``--learners.NAME.optimizer`` gives them."""


def make_optimizer(model: nn.Module, config: LearnerConfig) -> torch.optim.Optimizer:
    """The optimizer of a learner; one kernel for all parameters on a GPU."""
    fused = next(model.parameters()).is_cuda
    return OPTIMIZERS[config.optimizer](model.parameters(), config, fused)


def state_tensors(config: LearnerConfig) -> int:
    """How many tensors of the size of the weights the optimizer keeps."""
    return 2 if config.optimizer == "adamw" else 1


def tensors_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer keeps, by name."""
    return {
        f"{SAVED[key]}/{number}": value
        for number, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if value is not None
    }


def restore(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Restore what :func:`tensors_of` gave, for these parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for number, parameter in enumerate(parameters):
        for key, name in SAVED.items():
            saved = tensors.get(f"{name}/{number}")
            if saved is not None:
                # In the memory layout of its parameter, or sums could be rounded differently.
                like = saved if key == "step" else parameter
                kept = torch.empty_like(like).copy_(saved)
                state.setdefault(number, {})[key] = kept
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
