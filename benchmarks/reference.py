"""One iteration of Zipper, written the plain way that public adversarial-training code is written.

This is what ``make bench-step`` compares the engine with. It is kept slow on purpose and in one
place: gradients of all weights inside the attack (``loss.backward()``), NCHW, fp32, a DataLoader,
averages by a loop over the state dict, and running accuracies by extra forward passes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """Images uint8 (N, C, H, W) handed out one by one: padded, cropped at random, flipped."""

    def __init__(self, images: Tensor, labels: Tensor, padding: int, flip: bool) -> None:
        self.images, self.labels = images, labels
        self.padding, self.flip = padding, flip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index].float() / 255
        if self.padding:
            height, width = image.shape[1:]
            padded = F.pad(image, (self.padding,) * 4)
            top, left = (int(torch.randint(0, 2 * self.padding + 1, ())) for _ in range(2))
            image = padded[:, top : top + height, left : left + width]
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(2)
        return image, int(self.labels[index])


def pgd(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, step_size: float, steps: int, start: Tensor
) -> Tensor:
    """PGD as tutorials have it: a full backward pass a step."""
    model.eval()
    x_adv = torch.clamp(start, 0, 1)
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        loss = F.cross_entropy(model(x_adv), y)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert x_adv.grad is not None
        x_adv = x_adv + step_size * x_adv.grad.sign()
        x_adv = torch.min(torch.max(x_adv, x - eps), x + eps)
        x_adv = torch.clamp(x_adv, 0, 1)
    model.train()
    return x_adv.detach()


class Reference:
    """Natural and adversarial learner and their global average.

    Args:
        model: the network both start from; it is copied.
        lrs: learning rates of the natural and the adversarial learner.
        weight_decays: theirs.
        eps, step_size, steps: the L∞ attack.
        gamma: mixing weight of the adversarial learner.
        decay: of the moving average.
    """

    def __init__(
        self,
        model: nn.Module,
        lrs: tuple[float, float],
        weight_decays: tuple[float, float],
        eps: float,
        step_size: float,
        steps: int,
        gamma: float,
        decay: float,
    ) -> None:
        self.natural, self.adversarial = copy.deepcopy(model), copy.deepcopy(model)
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.optimizers = [
            torch.optim.SGD(
                network.parameters(), lr=lr, momentum=0.9, weight_decay=decay, foreach=False
            )
            for network, lr, decay in zip(
                (self.natural, self.adversarial), lrs, weight_decays, strict=True
            )
        ]
        self.eps, self.step_size, self.steps = eps, step_size, steps
        self.gamma, self.decay = gamma, decay
        self.accuracies: list[float] = []
        self.parts: dict[str, float] = {}

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - start

    def step(self, x: Tensor, y: Tensor, t: int, start: Tensor) -> tuple[float, float]:
        """Iteration ``t``: the natural and the adversarial loss. The attack begins at ``start``."""
        with self._timed("attack"):
            attack = (self.eps, self.step_size, self.steps, start)
            x_adv = pgd(self.adversarial, x, y, *attack)
        with self._timed("adversarial step"):
            adversarial = self._train(self.adversarial, self.optimizers[1], x_adv, y)
        with self._timed("natural step"):
            natural = self._train(self.natural, self.optimizers[0], x, y)
        with self._timed("mixing"):
            self._mix(t)
        with self._timed("rest"):
            self._running_accuracies(x, x_adv, y)
        return natural, adversarial

    def _train(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor
    ) -> float:
        model.train()
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    def _mix(self, t: int) -> None:
        alpha = min(self.decay, (1 + t) / (10 + t))
        natural, adversarial = self.natural.state_dict(), self.adversarial.state_dict()
        for name, average in self.average.state_dict().items():
            if not average.is_floating_point():
                average.copy_(natural[name])
                continue
            mixture = self.gamma * adversarial[name] + (1 - self.gamma) * natural[name]
            average.copy_(alpha * average + (1 - alpha) * mixture)

    def _running_accuracies(self, x: Tensor, x_adv: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            for model, images in ((self.natural, x), (self.adversarial, x_adv)):
                model.eval()
                self.accuracies.append((model(images).argmax(1) == y).float().mean().item())
                model.train()


def loader(images: Tensor, labels: Tensor, batch_size: int, augment: bool) -> DataLoader[Tensor]:
    """Minibatches of shuffled, augmented images."""
    data = AugmentedImages(images, labels, padding=4 if augment else 0, flip=augment)
    return DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True)  # type: ignore[arg-type]
