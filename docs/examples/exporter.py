"""An export format: TorchScript, for programs that still read it."""

from collections.abc import Iterator
from pathlib import Path

import torch

from zipper_dist.export.base import Subject


def torchscript(subject: Subject, out: Path) -> Iterator[str]:
    """Write model.ts."""
    path = out / "model.ts"
    torch.jit.trace(subject.model, subject.images(2)).save(path)
    difference = subject.compare(str(path), torch.jit.load(path), tolerance=1e-4)
    yield f"as TorchScript its logits differ by {difference:.2g} at most"
