"""MNIST: 70,000 grey images of 28×28 pixels of handwritten digits."""

from __future__ import annotations

import math
from pathlib import Path

from zipper_dist.data.registry import DATASETS
from zipper_dist.data.torchvision_sets import DIGIT_NAMES, DataFile, Raw, TorchvisionSet


class Mnist(TorchvisionSet):
    """MNIST."""

    def files(self, root: Path) -> list[DataFile]:
        """See :class:`TorchvisionSet`."""
        from torchvision import datasets

        folder = root / "MNIST" / "raw"
        return [
            # The checksum is that of the archive, which need not be kept.
            DataFile(
                folder / name.removesuffix(".gz"),
                is_whole_idx_file,
                folder / name,
                md5,
                tuple(f"{mirror}{name}" for mirror in datasets.MNIST.mirrors),
            )
            for name, md5 in datasets.MNIST.resources
        ]

    def open(self, root: Path, train: bool) -> Raw:
        """See :class:`TorchvisionSet`."""
        from torchvision import datasets

        dataset = datasets.MNIST(root, train=train)
        return dataset.data.numpy()[..., None], dataset.targets.numpy(), DIGIT_NAMES


def is_whole_idx_file(path: Path) -> bool:
    """Whether a file in MNIST's format (IDX, of bytes) is as long as its header says."""
    with path.open("rb") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\x00\x00\x08":
            return False
        header = file.read(4 * magic[3])
    sizes = [int.from_bytes(header[at : at + 4], "big") for at in range(0, len(header), 4)]
    return path.stat().st_size == 4 + 4 * magic[3] + math.prod(sizes)


DATASETS.register("mnist")(Mnist("mnist", (28, 28, 1), 10))
