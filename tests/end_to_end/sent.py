"""What the design says that ranks send each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from end_to_end.results import evaluations, summary


def assert_sent_as_designed(run: Path) -> None:
    """Every rank of a finished run, begun and ended at once, handed that much to all-reduces."""
    counted = [rank["comm_bytes"] for rank in summary(run)["ranks"]]
    ranks = range(len(counted))
    assert counted == [_common(run, len(ranks)) + _sums(run, rank) for rank in ranks]


def _common(run: Path, ranks: int) -> int:
    """What every rank sends, in bytes."""
    if ranks == 1:
        return 0
    learners = len(_config(run, "options")["learners"])
    redistributions: int = summary(run)["redistributions"]
    # Parameters and floating-point buffers, each up to the next multiple of 64 bytes.
    flat = sum(-(-tensor.numel() // 16) * 16 for tensor in _tensors(run).values())
    # The last all-reduce of the global learner makes the one that is saved. Two numbers have but
    # one sum in fp32, a few have in float64.
    mixtures = (redistributions + 1 + len(evaluations(run))) * flat * (4 if learners <= 2 else 8)
    # A row a rank of checksums of every learner, and of the global one, in int64.
    checksums = (redistributions + 1) * ranks * (learners + 1) * 8
    # At the end, each learner's weights go to the ranks that help to evaluate it.
    return mixtures + checksums + learners * flat * 4


def _sums(run: Path, rank: int) -> int:
    """What a rank sends for the learners that it trains with others, in bytes."""
    options, resolved = (_config(run, part) for part in ("options", "resolved"))
    number = 4 if resolved["shards"] <= 2 else 8
    # The gradient, the statistics of BatchNorm, the loss and the number of right answers.
    descent = sum(tensor.numel() for tensor in _tensors(run).values()) + 2
    # That of AWP is of matrices and kernels.
    ascent = sum(tensor.numel() for tensor in _tensors(run).values() if tensor.dim() > 1)
    sums = 0
    for name, shards in resolved["placement"][rank].items():
        if len(shards) < resolved["shards"]:
            awp = options["learners"][name].get("awp", 0) > 0
            sums += descent + (ascent if awp else 0)
    steps: int = summary(run)["steps"]
    return steps * sums * number


def _config(run: Path, part: str) -> dict[str, Any]:
    """A part of what config.json says."""
    found: dict[str, Any] = json.loads((run / "config.json").read_text())[part]
    return found


def _tensors(run: Path) -> dict[str, Tensor]:
    """The parameters and floating-point buffers of the network, by name."""
    state = safetensors.torch.load_file(run / "global.safetensors")
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
