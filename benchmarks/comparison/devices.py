"""The devices that runs are given, and commands as they are started on them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from zipper_dist.config import Device
from zipper_dist.errors import UserError


@dataclass(frozen=True)
class Command:
    """A command and what its environment has beside ours."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The command as one would type it."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        words = ["python" if word == sys.executable else word for word in self.argv]
        return " ".join([*settings, shlex.join(words)])


@dataclass(frozen=True)
class Devices:
    """The GPUs of this machine, or else its cores. Equal hardware means equally many of them.

    Attributes:
        kind: "cuda" or "cpu".
        numbers: which ones.
        pins: whether a process can be kept on its cores (by taskset); GPUs always can.
    """

    kind: str
    numbers: tuple[int, ...]
    pins: bool = True

    @staticmethod
    def detect(option: Device) -> Devices:
        """The devices that ``--device`` means.

        Raises:
            UserError: GPUs are asked for and there is none.
        """
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if option == "cuda" and gpus == 0:
            raise UserError("--device cuda: no GPU was found here; give cpu or auto")
        if option != "cpu" and gpus > 0:
            return Devices("cuda", tuple(range(gpus)))
        available = getattr(os, "sched_getaffinity", None)
        cores = sorted(available(0)) if available else range(os.cpu_count() or 1)
        return Devices("cpu", tuple(cores), pins=shutil.which("taskset") is not None)

    def words(self, count: int) -> str:
        """So many of them, in words."""
        unit = "GPU" if self.kind == "cuda" else "core"
        return f"{count} {unit}{'' if count == 1 else 's'}"

    def command(self, module: str, arguments: Sequence[str], on: Sequence[int]) -> Command:
        """``python -m module arguments``, a process for each of the devices ``on``."""
        launcher = ["zipper_dist.launcher", "--standalone", f"--nproc_per_node={len(on)}", "-m"]
        argv = [sys.executable, "-m", *(launcher if len(on) > 1 else []), module, *arguments]
        argv += ["--device", self.kind]
        numbers = ",".join(str(number) for number in on)
        if self.kind == "cuda":
            return Command(tuple(argv), {"CUDA_VISIBLE_DEVICES": numbers})
        argv += ["--threads", "1"]
        return Command(("taskset", "-c", numbers, *argv) if self.pins else tuple(argv))


def processor() -> str:
    """The CPU in words."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    found = [name for name, has in (
        ("AMX", torch.cpu._is_amx_tile_supported()),
        ("AVX512-BF16", torch.cpu._is_avx512_bf16_supported()),
    ) if has]  # fmt: skip
    model = names[0] if names else "unknown CPU"
    return f"{len(names)} cores, {model}{f' ({found[0]})' if found else ''}"


def describe(devices: Devices) -> str:
    """The machine in words."""
    if devices.kind == "cuda":
        names = [torch.cuda.get_device_name(number) for number in devices.numbers]
        return f"{len(names)} × {names[0]}"
    return processor()
