"""A graph of torch.export, which runs wherever torch is, without any code of the network."""

import io
from collections.abc import Iterator
from pathlib import Path

import torch

from zipper_dist.errors import UserError, in_one_line
from zipper_dist.export.base import EXPORTERS, Subject, write

TOLERANCE = 1e-4  # of logits: kernels may round differently


@EXPORTERS.register("torch-export")
def torch_export(subject: Subject, out: Path) -> Iterator[str]:
    """Write model.pt2, which takes any number of images (N, C, H, W) in [0, 1]."""
    batch = ({0: torch.export.Dim("batch")},)
    try:
        program = torch.export.export(subject.model, (subject.images(2),), dynamic_shapes=batch)
    except Exception as error:  # whatever the network's own code does
        raise UserError(f"--to torch-export: cannot be traced: {in_one_line(error)}") from error
    content = io.BytesIO()
    torch.export.save(program, content)
    again = torch.export.load(io.BytesIO(content.getvalue())).module()
    difference = subject.compare("--to torch-export: model.pt2", again, TOLERANCE)
    write(out / "model.pt2", content.getvalue())
    yield f"loaded again, its logits differ by {difference:.2g} at most"
