"""A network's predictions, and whether attacks change them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from zipper_dist.accel.precision import Acceleration
from zipper_dist.attacks import Blocks, ExampleDraws
from zipper_dist.attacks.base import in_steps
from zipper_dist.attacks.pgd import PGD
from zipper_dist.attacks.verdict import NO_ANSWER, answers
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import CommandError
from zipper_dist.evaluation.network_views import NetworkViews, available_memory, batch_size_for


@dataclass(frozen=True)
class Answers:
    """Of one group of images."""

    probabilities: Tensor
    """float32 (N, classes), on the CPU."""
    predicted: Tensor
    """The class of each image, by its logits, whose order rounded probabilities may not have: int64
    (N,), on the CPU."""
    attacked: list[Tensor] = field(default_factory=list)
    """For each attack, the class of the image that it found: int64 (N,); that of the clean image
    where it found no other."""


class Predictor:
    """Predictions of ``model``, in eval mode, on its ``device``."""

    def __init__(self, model: nn.Module, device: torch.device, image: Tensor, seed: int) -> None:
        model.to(device)
        self._views, self._device, self._seed = NetworkViews.of(model), device, seed
        memory = available_memory(device, 1)
        self._batch_size = batch_size_for(model, image.to(device), memory)

    def answers(self, images: Tensor, number: int, attacks: list[PGD]) -> Answers:
        """What it says of uint8 images (N, C, H, W), of which the first has this number among all,
        and what the attacks make of that. CommandError: a logit is not finite."""
        places = torch.arange(len(images))
        logits = []
        for rows in torch.split(places, self._batch_size):
            with Acceleration().arithmetic(), torch.no_grad():
                logits.append(self._views.exact(self._take(images, rows)))
        predicted = answers(torch.cat(logits))
        if (predicted == NO_ANSWER).any():
            raise CommandError("the network gives logits that are not finite: it answers nothing")
        attacked = []
        for attack in attacks:
            found = []
            for rows in torch.split(places, self._batch_size):
                draws = ExampleDraws(
                    self._seed, attack.name, Blocks(len(images)), rows, rows + number
                )
                x, y = self._take(images, rows), predicted[rows.to(predicted.device)]
                with Acceleration().arithmetic():
                    *_, end = in_steps(attack, self._views.attacked, self._views.exact, draws, x, y)
                assert end is not None
                found.append(end[1].cpu())
            attacked.append(torch.cat(found))
        return Answers(torch.cat(logits).float().softmax(1).cpu(), predicted.cpu(), attacked)

    def _take(self, images: Tensor, rows: Tensor) -> Tensor:
        return (images[rows].to(self._device).float() / 255).contiguous()


def attacks_of(threats: tuple[ThreatModel, ...], steps: int, restarts: int) -> list[PGD]:
    """The attack under each threat model."""
    return [PGD(t.eps, t.norm, steps=steps, restarts=restarts) for t in threats]
