"""The devices that runs are given, and commands as they are started on them."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from zipper_dist.config.schema import Device
from zipper_dist.errors import UserError


@dataclass(frozen=True)
class Command:
    """A command, and the environment variables that it needs beside ours."""

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
        names: which ones, as CUDA_VISIBLE_DEVICES and taskset take them.
    """

    kind: str
    names: tuple[str, ...]

    @staticmethod
    def detect(option: Device) -> Devices:
        """The devices that ``--device`` means, among those that this process may use.

        Raises:
            UserError: GPUs are asked for and there is none.
        """
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if option == "cuda" and gpus == 0:
            raise UserError("--device cuda: no GPU was found here; give cpu or auto")
        if option != "cpu" and gpus > 0:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            names = visible.split(",")[:gpus] if visible else map(str, range(gpus))
            return Devices("cuda", tuple(names))
        return Devices("cpu", tuple(map(str, sorted(os.sched_getaffinity(0)))))

    def words(self, count: int) -> str:
        """So many of them, in words."""
        unit = "GPU" if self.kind == "cuda" else "core"
        return f"{count} {unit}{'' if count == 1 else 's'}"

    @property
    def options(self) -> tuple[str, ...]:
        """The options that make a command run on them."""
        return ("--device", self.kind, *(("--threads", "1") if self.kind == "cpu" else ()))

    def command(self, module: str, arguments: Sequence[str], on: Sequence[str]) -> Command:
        """``python -m module arguments``, a process for each of the devices ``on``."""
        launcher = ["zipper_dist.launcher", "--standalone", f"--nproc_per_node={len(on)}", "-m"]
        argv = [sys.executable, "-m", *(launcher if len(on) > 1 else []), module, *arguments]
        argv += self.options
        if self.kind == "cuda":
            return Command(tuple(argv), {"CUDA_VISIBLE_DEVICES": ",".join(on)})
        return Command(("taskset", "-c", ",".join(on), *argv))

    def describe(self) -> str:
        """The machine in words."""
        if self.kind == "cuda":
            found = Counter(map(torch.cuda.get_device_name, range(len(self.names))))
            return ", ".join(f"{count} × {name}" for name, count in found.items())
        return f"{self.words(len(self.names))}, {processor()}"


def processor() -> str:
    """The CPU in words."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    has = ("with AMX",) if torch.cpu._is_amx_tile_supported() else ()
    has = has or (("with AVX512-BF16",) if torch.cpu._is_avx512_bf16_supported() else ())
    return " ".join([names[0] if names else platform.machine(), *has])
