"""torch.compile: whether it pays for itself, how it is used, where compiled code is kept."""

import copy
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zipper_dist.config.schema import TrainConfig

# FLOP of a run from which on compiling has paid for itself, by device type and architecture
# (benchmarks/results/step.md). What is not listed is slower when compiled, or was not measured.
BREAK_EVEN: dict[tuple[str, str], float] = {("cpu", "resnet18"): 300e12}


def work(config: TrainConfig, model: nn.Module, image: Sequence[int], images: int) -> float:
    """FLOP of training ``model`` on so many ``images`` of shape ``image`` (C, H, W), each counted
    as often as it is trained on, roughly: second passes of TRADES and AWP do not count."""
    return float(images) * config.passes() * forward_flop(model, image)


def forward_flop(model: nn.Module, image: Sequence[int]) -> int:
    """FLOP of ``model`` for one image of shape ``image`` (C, H, W); nothing is computed."""
    skeleton = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        skeleton(torch.empty(1, *image, device="meta"))
    return int(counter.get_total_flops())


def resolve_compile(option: str, device: torch.device, arch: str, flop: float) -> tuple[bool, str]:
    """Whether a run of ``flop`` FLOP compiles its networks, and why, in words. ``auto`` measures
    nothing: with a decision by timings, equal runs could end with other bits."""
    if option != "auto":
        return option == "on", f"compile {option}"
    if device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        return False, "compile off (no C++ compiler was found)"
    break_even = BREAK_EVEN.get((device.type, arch))
    if break_even is None:
        return False, f"compile off (not known to be faster for {arch} on {device.type})"
    pays = flop >= break_even
    return pays, (
        f"compile {'on' if pays else 'off'} (pays for itself after some {break_even / 1e12:.0f} "
        f"TFLOP; this run has {flop / 1e12:.0f})"
    )


def compile_network(network: nn.Module) -> nn.Module:
    """``network`` compiled at its first call, for minibatches of one shape."""
    keep_compiled_code()
    mode = compile_mode(next(network.parameters()).device)
    compiled: nn.Module = torch.compile(network, dynamic=False, mode=mode)  # type: ignore[assignment]
    return compiled


def compile_mode(device: torch.device) -> str | None:
    """The mode of torch.compile for a device: CUDA graphs on a GPU."""
    return "reduce-overhead" if device.type == "cuda" else None


def keep_compiled_code() -> None:
    """Keep compiled code for later runs in $XDG_CACHE_HOME/zipper_dist, or ~/.cache/zipper_dist,
    unless TORCHINDUCTOR_CACHE_DIR is set or the directory cannot be made."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "zipper_dist" / f"compiled-torch-{torch.__version__}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(directory))
