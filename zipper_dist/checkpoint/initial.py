"""Weights that a training starts from, of any origin, as far as they fit the network."""

from pathlib import Path

import safetensors
from torch import nn

from zipper_dist.checkpoint.state_dicts import read_state_dict
from zipper_dist.checkpoint.weights import read_checked
from zipper_dist.config.paths import expanded
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec
from zipper_dist.models.normalised import inner
from zipper_dist.models.sources import SOURCES, source_of
from zipper_dist.models.sources.pretrained import Pretrained

NAMED = 4
"""Tensors that a note names."""


def is_remote(weights: str) -> bool:
    """Whether the weights are a source's, to be downloaded where they are not there."""
    return ":" in weights and source_of(weights) in SOURCES


def initial_weights(weights: str, spec: ModelSpec) -> Pretrained:
    """What ``--model.weights`` names, for a network ``spec``; UserError where it cannot be had."""
    option = f"--model.weights {weights}"
    if not is_remote(weights):
        return _of_file(expanded(Path(weights), "--model.weights"))
    source, _, which = weights.partition(":")
    if source_of(spec.arch) != source:
        raise UserError(f"{option}: are for --model.arch {source}:NAME, not {spec.arch}")
    return SOURCES[source].pretrained(spec, which, option)


def _of_file(path: Path) -> Pretrained:
    """The weights in a file; of one of this package's without the normalisation before them."""
    if not _is_ours(path):
        return Pretrained(read_state_dict(path))
    spec, state = read_checked(path)
    if spec.normalise:
        state = {name.removeprefix("network."): tensor for name, tensor in state.items()}
    return Pretrained(state, spec.normalise)


def _is_ours(path: Path) -> bool:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return "zipper_dist/" in (file.metadata() or {}).get("format", "")
    except (OSError, safetensors.SafetensorError):
        return False


def start_from(network: nn.Module, start: Pretrained, weights: str) -> str:
    """Give ``network`` every tensor of ``start`` that fits by name and shape; a note on it.
    UserError where none fits."""
    there, network = dict(start.state), inner(network)
    here = network.state_dict()
    fitting = {n: t for n, t in there.items() if n in here and t.shape == here[n].shape}
    if not any(here[name].is_floating_point() for name in fitting):
        raise UserError(
            f"--model.weights {weights}: none of its {len(there)} tensors (such as "
            f"{next(iter(there), 'none')}) fits the network (such as {next(iter(here))}), by name "
            "and shape"
        )
    network.load_state_dict(fitting, strict=False)
    note = f"started from {weights}: {len(fitting)} of {len(here)} tensors of the network"
    left = [f"{n} {tuple(t.shape)}" for n, t in sorted(here.items()) if n not in fitting]
    unused = [f"{n} {tuple(t.shape)}" for n, t in sorted(there.items()) if n not in fitting]
    for words, names in (("random are", left), ("left out of it are", unused)):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            note += f"; {words} {', '.join(names[:NAMED])}{more}"
    return note
