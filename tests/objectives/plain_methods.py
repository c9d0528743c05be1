"""The methods once more, as plainly as they can be written: image by image, step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zipper_dist.accel.precision import Acceleration
from zipper_dist.data import Minibatch
from zipper_dist.objectives import Objective, StepContext

CLASSES = 4
SIZE = 8


def network(seed: int = 0, activation: type[nn.Module] = nn.GELU) -> nn.Module:
    """A small smooth network with BatchNorm that has seen something, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            activation(),
            nn.Conv2d(6, 4, 3),
            activation(),
            nn.Flatten(),
            nn.Linear(4 * 2 * 2, CLASSES),
        )
        with torch.no_grad():
            model.get_buffer("1.running_mean").uniform_(-0.2, 0.2)
            model.get_buffer("1.running_var").uniform_(0.02, 0.2)
            model.get_parameter("6.weight").mul_(3)
    return model


def batch(model: nn.Module, seed: int, size: int = SIZE) -> Minibatch:
    """Images, some pixels of which are black or white; most labels are what the model says."""
    generator = torch.Generator().manual_seed(seed)
    images = (1.4 * torch.rand(size, 1, 6, 6, generator=generator) - 0.2).clamp(0, 1)
    with torch.no_grad():
        labels = copy.deepcopy(model).eval()(images).argmax(1)
    labels[0] = (labels[0] + 1) % CLASSES  # misclassified before any attack
    return Minibatch(images, labels)


def log_probabilities(logits: Tensor) -> Tensor:
    peak = logits.detach().max(1, keepdim=True).values
    result: Tensor = logits - peak - (logits - peak).exp().sum(1, keepdim=True).log()
    return result


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean over the images of -Σ_k q_k log p_k, with q the smoothed label."""
    logs = log_probabilities(logits)
    wanted = torch.full_like(logs, smoothing / logits.shape[1])
    wanted[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(wanted * logs).sum(1).mean()


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(p(x) ‖ p(x′)) for each image."""
    p, q = log_probabilities(clean), log_probabilities(attacked)
    return (p.exp() * (p - q)).sum(1)


@dataclass
class Path:
    """Where an attack took one image: (1, C, H, W) each; ``flattest``: the smallest derivative by a
    pixel, over all steps, relative to the largest of its step."""

    points: list[Tensor]
    flattest: float

    @property
    def end(self) -> Tensor:
        return self.points[-1]


def step_linf(x: Tensor, at: Tensor, gradient: Tensor, eps: float, step_size: float) -> Tensor:
    moved = at + step_size * gradient.sign()
    return torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)


def step_l2(x: Tensor, at: Tensor, gradient: Tensor, eps: float, step_size: float) -> Tensor:
    delta = at + step_size * gradient / gradient.norm() - x
    inside: Tensor = x + delta * min(1.0, eps / float(delta.norm()))
    return inside.clamp(0, 1)


STEPS = {"linf": step_linf, "l2": step_l2}


def climb(
    model: nn.Module,
    x: Tensor,
    start: Tensor,
    loss: Callable[[Tensor], Tensor],
    stop: Callable[[Tensor], bool],
    norm: str,
    eps: float,
    step_size: float,
    steps: int,
) -> Path:
    """Attack one image: ``stop`` is asked before every step, with the logits where it stands."""
    model = copy.deepcopy(model).eval()
    points, flattest = [start.clone()], float("inf")
    for _ in range(steps):
        at = points[-1].clone().requires_grad_()
        logits = model(at)
        if stop(logits.detach()):
            break
        (gradient,) = torch.autograd.grad(loss(logits), at)
        sizes = gradient.abs()
        flattest = min(flattest, float(sizes.min() / sizes.max()))
        points.append(STEPS[norm](x, points[-1], gradient, eps, step_size))
    return Path(points, flattest)


def friendly(label: Tensor, tau: int) -> Callable[[Tensor], bool]:
    """FAT's rule: stop where it is wrong and has been wrong ``tau`` times before."""
    times_wrong = 0

    def stop(logits: Tensor) -> bool:
        nonlocal times_wrong
        if int(logits.argmax()) == int(label):
            return False
        times_wrong += 1
        return times_wrong > tau

    return stop


def never(logits: Tensor) -> bool:
    return False


def attacked_by(
    objective: Objective, model: nn.Module, minibatch: Minibatch, progress: float = 0.5
) -> Tensor:
    """The objective's images, in iteration 3 of a learner ``a`` with seed 1."""
    assert model.training
    images = objective.perturb(minibatch, StepContext(1, "a", 3, progress))
    assert model.training
    return images


def gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def relative_error(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest, of any tensor, in the norm."""
    return max(
        float((f.double() - w.double()).norm() / w.double().norm().clamp_min(1e-12))
        for f, w in zip(found, wanted, strict=True)
    )


FP32 = Acceleration("fp32")
