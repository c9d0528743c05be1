"""The command that evaluates, as a person starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = ["-m", "zipper_dist.evaluate"]
IMAGES = 64
SHORT = [
    *("--attacks", "clean,pgd-20", "apgd-ce", "cw-5"),
    *("--threads", "1", "--limit", str(IMAGES), "--block-size", "8"),
]


def evaluate(
    *arguments: str | Path, ranks: int = 0, python_path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable]
    if ranks:
        launch += ["-m", "zipper_dist.launcher", "--standalone", f"--nproc_per_node={ranks}"]
    command = [*launch, *COMMAND, *map(str, arguments)]
    environment = dict(os.environ)
    if python_path is not None:
        paths = [str(python_path), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env=environment
    )
