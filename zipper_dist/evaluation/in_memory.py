"""Evaluation of a network in this process, with everything in memory and nothing printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zipper_dist.attacks import Attack, Blocks
from zipper_dist.attacks.draws import BLOCK_SIZE
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.evaluation.attack_list import expand, measures
from zipper_dist.evaluation.batch_size import available_memory, batch_size_for
from zipper_dist.evaluation.engine import Engine, Examples
from zipper_dist.evaluation.network_views import NetworkViews
from zipper_dist.evaluation.outcomes import MemoryStore
from zipper_dist.evaluation.results.report import Report, report


@dataclass(frozen=True)
class HowToEvaluate:
    """Options of :func:`evaluate_model`."""

    seed: int = 0
    """Seed of every random draw."""
    step_size: float | None = None
    """Step of pgd, mim and cw [1 = the full pixel range]; None: 2.5 eps / steps."""
    restarts: int = 1
    """Starts of pgd."""
    batch_size: int | None = None
    """Images at a time; changes no outcome; None: what fits in memory [images]."""
    block_size: int = BLOCK_SIZE
    """Examples that share the draws of an AutoAttack attack [images]."""
    numbers: Tensor | None = None
    """Numbers of the images in the set that they are from, which decide their draws: int64 (N,);
    None: 0, 1, 2 …"""


def evaluate_model(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threats: ThreatModel | Sequence[ThreatModel],
    attacks: Sequence[str | Attack] = ("clean", "pgd-20"),
    how: HowToEvaluate = HowToEvaluate(),
) -> Report:
    """Clean and robust accuracy of a network, by attack.

    Args:
        model: any network of images in [0, 1], on its device; it is left as it is.
        images: (N, C, H, W), float in [0, 1] or uint8 from 0 to 255.
        labels: (N,), integers.
        threats: what the attacker may do; with several, each attack is reported under each and
            under their union.
        attacks: names as in ``--attacks``, or attacks with threat models of their own.
        how: seed, batch size and the like.

    Raises:
        UserError: an unknown attack, or a radius out of range.
        ValueError: images and labels do not fit.
    """
    tensor = next((t for t in (*model.parameters(), *model.buffers())), images)
    images, labels = images.to(tensor.device), labels.to(tensor.device, torch.int64)
    if images.dim() != 4 or labels.shape != images.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"images (N, C, H, W) and labels (N,) are needed, not {tuple(images.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if images.dtype != torch.uint8:
        images = images.float()
        if not (float(images.min()) >= 0 and float(images.max()) <= 1):
            raise ValueError("images must lie in [0, 1]: let the model normalise, not the images")
    models = (threats,) if isinstance(threats, ThreatModel) else tuple(threats)
    problems = [line for threat in models for line in threat.problems("threats")]
    if problems:
        raise UserError("; ".join(problems))
    names: list[str | Attack] = []
    for given in attacks:
        names += expand([given]) if isinstance(given, str) else [given]
    wanted = measures(list(dict.fromkeys(names)), models, how.step_size, how.restarts)
    examples = Examples(images, labels, how.numbers)
    batch_size = how.batch_size or batch_size_for(
        model, examples.take(slice(1))[0], available_memory(images.device, 1)
    )
    blocks = Blocks(len(labels), how.block_size)
    engine = Engine(
        examples, NetworkViews.of(model), MemoryStore(), blocks, range(len(blocks)), batch_size,
        how.seed,
    )  # fmt: skip
    for _ in engine.run(wanted):
        pass
    return report(engine, wanted)
