"""The training loop of the method's public release, written once more, in float64.

It goes by epochs, keeps its averages in state dicts, and shares nothing with the package but the
images, the order in which they come, and the attack, which other tests compare with others'.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.tiny_runs import BATCH, IMAGES, DoubleNetwork, History, State, image_set
from zipper_dist.attacks import PGD, SharedDraws
from zipper_dist.rng import generator_at

EPOCHS = 12
PER_EPOCH = IMAGES // BATCH


@dataclass(frozen=True)
class Slip:
    """What goes wrong in the transcription."""

    averages_start_over: bool = False
    mixes_the_weights_themselves: bool = False
    counts_from_one: bool = False
    schedules_by_iteration: bool = False
    natural_keeps_its_rate: bool = False
    only_once: bool = False
    an_iteration_early: bool = False
    epochs_from_zero: bool = False


NONE = Slip()


class Average:
    """A moving average of state dicts."""

    def __init__(self, model: nn.Module, alpha: float, first: int) -> None:
        self.state = state_of(model)
        self.alpha, self.count = alpha, first

    def update(self, new: State) -> None:
        decay = min(self.alpha, (self.count + 1) / (self.count + 10))
        self.state = {n: decay * self.state[n] + (1 - decay) * new[n] for n in self.state}
        self.count += 1


def state_of(model: nn.Module) -> State:
    """Copies of its floating-point tensors."""
    state = model.state_dict()
    return {name: tensor.clone() for name, tensor in state.items() if tensor.is_floating_point()}


def released(
    start: State,
    attack: PGD,
    hands_back: Callable[[int, int], bool],
    alphas: tuple[float, float],
    seed: int,
    slip: Slip = NONE,
) -> History:
    """What the release does from ``start``; ``hands_back`` tells after which iteration of which
    epoch, both counted from 1; ``alphas`` are those of the global and of the learners' averages."""
    natural, adversarial = DoubleNetwork(), DoubleNetwork()
    models = {"natural": natural, "adversarial": adversarial}
    decays = {"natural": 0.005, "adversarial": 0.01}
    optimizers, averages, first = {}, {}, int(slip.counts_from_one)
    for name, model in models.items():
        model.load_state_dict(start)
        optimizers[name] = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, weight_decay=decays[name]
        )
        averages[name] = Average(model, alphas[1], first)
    mixed = Average(natural, alphas[0], first)
    data = image_set(IMAGES, 0)
    history: History = [{**{n: state_of(m) for n, m in models.items()}, "global": mixed.state}]
    for epoch in range(1, EPOCHS + 1):
        order = torch.randperm(
            IMAGES, generator=generator_at("cpu", seed, "permutation", epoch - 1)
        )
        for i in range(1, PER_EPOCH + 1):
            t = (epoch - 1) * PER_EPOCH + i
            at = t / PER_EPOCH if slip.schedules_by_iteration else epoch
            points = [0, EPOCHS // 3, EPOCHS * 2 // 3, EPOCHS]
            rate = np.interp([at], points, [0.05, 0.05, 0.005, 0.0005])[0]
            beta = np.interp([at], points, [1.0, 1.0, 0.8, 0.4])[0]
            chosen = order[(i - 1) * BATCH : i * BATCH]
            images, labels = data.images[chosen].float() / 255, data.labels[chosen]
            draws = SharedDraws(generator_at("cpu", seed, "pgd-start", "adversarial", t))
            adversarial.eval()
            attacked = attack.run(adversarial, images, labels, draws)
            for name, batch in (("adversarial", attacked), ("natural", images)):
                model, optimizer = models[name].train(), optimizers[name]
                keeps = name == "natural" and slip.natural_keeps_its_rate
                optimizer.param_groups[0]["lr"] = 0.1 if keeps else rate
                optimizer.zero_grad()
                loss: Tensor = F.cross_entropy(model(batch), labels)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                averages[name].update(state_of(model))
            if slip.mixes_the_weights_themselves:
                found = {name: state_of(model) for name, model in models.items()}
            else:
                found = {name: average.state for name, average in averages.items()}
            ours, theirs = found["adversarial"], found["natural"]
            mixed.update({name: beta * ours[name] + (1 - beta) * theirs[name] for name in ours})
            due = hands_back(epoch - slip.epochs_from_zero, i + slip.an_iteration_early)
            # The release also does so after the very last one, which leaves the global learner.
            if due and t < EPOCHS * PER_EPOCH and (i == PER_EPOCH or not slip.only_once):
                for name, model in models.items():
                    model.load_state_dict(mixed.state, strict=False)
                    if slip.averages_start_over:
                        averages[name].state = copy.deepcopy(mixed.state)
            history.append({**{n: state_of(m) for n, m in models.items()}, "global": mixed.state})
    return history
