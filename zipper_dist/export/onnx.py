"""ONNX, for runtimes other than torch."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from zipper_dist.errors import UserError, in_one_line
from zipper_dist.export.base import EXPORTERS, Subject, write
from zipper_dist.registry import require

TOLERANCE = 1e-3  # of logits: other kernels sum in another order


@EXPORTERS.register("onnx")
def onnx(subject: Subject, out: Path) -> Iterator[str]:
    """Write model.onnx: ``images`` (N, C, H, W) in [0, 1] to ``logits``, for any N."""
    require(("onnx", "onnxscript", "onnxruntime"), "onnx", "--to onnx")
    import onnxruntime

    content = _converted(subject)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    difference = subject.compare("--to onnx: model.onnx", run, TOLERANCE)
    write(out / "model.onnx", content)
    yield f"in onnxruntime its logits differ by {difference:.2g} at most"


def _converted(subject: Subject) -> bytes:
    """The network as an ONNX model; what the converter tells of its progress is not shown."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            tempfile.TemporaryDirectory() as scratch,
        ):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                subject.model,
                (subject.images(2),),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            path = Path(scratch) / "model.onnx"
            program.save(path)
            return path.read_bytes()
    except Exception as error:  # whatever the network's own code does
        raise UserError(f"--to onnx: cannot be converted: {in_one_line(error)}") from error
    finally:
        logger.setLevel(level)
