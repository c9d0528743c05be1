"""One iteration of Zipper, written the plain way that public adversarial-training code is written.

This is what ``make bench-step`` compares the engine with. It is kept slow on purpose and in one
place: gradients of all weights inside the attack (``loss.backward()``), NCHW, fp32, and averages by
a loop over the state dict.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.config.schema import AttackConfig


def pgd(model: nn.Module, x: Tensor, y: Tensor, attack: AttackConfig, start: Tensor) -> Tensor:
    """L∞ PGD as tutorials have it: a full backward pass a step."""
    model.eval()
    x_adv = torch.clamp(start, 0, 1)
    for _ in range(attack.steps):
        x_adv = x_adv.detach().requires_grad_()
        loss = F.cross_entropy(model(x_adv), y)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert x_adv.grad is not None
        x_adv = x_adv + attack.step_size * x_adv.grad.sign()
        x_adv = torch.min(torch.max(x_adv, x - attack.eps), x + attack.eps)
        x_adv = torch.clamp(x_adv, 0, 1)
    model.train()
    return x_adv.detach()


@dataclass(frozen=True)
class PlainOptions:
    """The attack, learning rates and weight decays of the natural and the adversarial learner, the
    mixing weight ``gamma`` of the adversarial one, and the ``decay`` of the moving average."""

    attack: AttackConfig
    lrs: tuple[float, float] = (0.01, 0.01)
    weight_decays: tuple[float, float] = (5e-4, 5e-4)
    gamma: float = 0.5
    decay: float = 0.999


class Reference:
    """Natural and adversarial learner, which start as copies of ``model``, and their average."""

    def __init__(self, model: nn.Module, options: PlainOptions) -> None:
        self.options = options
        self.natural, self.adversarial = copy.deepcopy(model), copy.deepcopy(model)
        self.average = copy.deepcopy(model).requires_grad_(False)
        self._optimizers = {
            network: torch.optim.SGD(
                network.parameters(), lr=lr, momentum=0.9, weight_decay=decay, foreach=False
            )
            for network, lr, decay in zip(
                (self.natural, self.adversarial), options.lrs, options.weight_decays, strict=True
            )
        }

    def step(self, x: Tensor, y: Tensor, t: int, start: Tensor) -> tuple[float, float]:
        """Iteration ``t``: the natural and the adversarial loss. The attack begins at ``start``."""
        x_adv = pgd(self.adversarial, x, y, self.options.attack, start)
        adversarial = self.train(self.adversarial, x_adv, y)
        natural = self.train(self.natural, x, y)
        self.mix(t)
        return natural, adversarial

    def train(self, model: nn.Module, x: Tensor, y: Tensor) -> float:
        """A step of one of the two learners: its loss."""
        model.train()
        optimizer = self._optimizers[model]
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    def mix(self, t: int) -> None:
        """Take iteration ``t`` into the average."""
        alpha, gamma = min(self.options.decay, (1 + t) / (10 + t)), self.options.gamma
        natural, adversarial = self.natural.state_dict(), self.adversarial.state_dict()
        for name, average in self.average.state_dict().items():
            if not average.is_floating_point():
                average.copy_(natural[name])
                continue
            mixture = gamma * adversarial[name] + (1 - gamma) * natural[name]
            average.copy_(alpha * average + (1 - alpha) * mixture)
