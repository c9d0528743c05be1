"""Evaluation of a network in this process, with everything in memory and nothing printed."""

from collections.abc import Sequence

import torch
from torch import nn

from zipper_dist.attacks import Attack, Blocks
from zipper_dist.config.threat import ThreatModel, problems_of
from zipper_dist.errors import UserError
from zipper_dist.evaluation.attack_list import expand, measures
from zipper_dist.evaluation.engine import Engine, Examples
from zipper_dist.evaluation.network_views import NetworkViews, available_memory, batch_size_for
from zipper_dist.evaluation.outcomes import MemoryStore
from zipper_dist.evaluation.results.report import Report, report


def evaluate_model(
    model: nn.Module, examples: Examples, threats: ThreatModel | Sequence[ThreatModel],
    attacks: Sequence[str | Attack] = ("clean", "pgd-20"), batch_size: int | None = None,
) -> Report:  # fmt: skip
    """Clean and robust accuracy of a network, by attack; the network is left as it is.

    With several threat models, each attack is reported under each and under their union; an attack
    that is given as an object has its own. ``batch_size``, images at a time, changes no outcome;
    None: what fits in memory. Raises UserError for an unknown attack or a radius out of range, and
    ValueError for images and labels that do not fit.
    """
    models = (threats,) if isinstance(threats, ThreatModel) else tuple(threats)
    if problems := list(problems_of(models, "threats")):
        raise UserError("; ".join(problems))
    names: list[str | Attack] = []
    for given in attacks:
        names += expand([given]) if isinstance(given, str) else [given]
    wanted = measures(list(dict.fromkeys(names)), models)
    examples = _checked(model, examples)
    if batch_size is None:
        memory = available_memory(examples.images.device, 1)
        batch_size = batch_size_for(model, examples.take(slice(1))[0], memory)
    blocks = Blocks(len(examples))
    engine = Engine(
        examples, NetworkViews.of(model), MemoryStore(), blocks, range(len(blocks)), batch_size
    )
    for _ in engine.run(wanted):
        pass
    return report(engine, wanted)


def _checked(model: nn.Module, examples: Examples) -> Examples:
    """The examples on the network's device; raises ValueError where they cannot be used."""
    images, labels = examples.images, examples.labels
    device = next((t.device for t in (*model.parameters(), *model.buffers())), images.device)
    images, labels = images.to(device), labels.to(device, torch.int64)
    if images.dim() != 4 or labels.shape != images.shape[:1] or len(labels) == 0:
        given = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"images (N, C, H, W) and labels (N,) are needed, not {given}")
    if images.dtype != torch.uint8:
        images = images.float()
        if not (float(images.min()) >= 0 and float(images.max()) <= 1):
            raise ValueError("images must lie in [0, 1]: let the model normalise, not the images")
    return Examples(images, labels, examples.numbers)
