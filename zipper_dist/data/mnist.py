"""MNIST: 70,000 grey images of 28×28 pixels of handwritten digits."""

from __future__ import annotations

import math
from pathlib import Path

from zipper_dist.data.downloads import Download
from zipper_dist.data.registry import DATASETS
from zipper_dist.data.torchvision_sets import DIGIT_NAMES, Raw, TorchvisionSet


class Mnist(TorchvisionSet):
    """MNIST."""

    def downloads(self, root: Path) -> list[Download]:
        """See :class:`TorchvisionSet`."""
        from torchvision import datasets

        directory = root / "MNIST" / "raw"
        downloads = []
        for name, md5 in datasets.MNIST.resources:
            urls = tuple(f"{mirror}{name}" for mirror in datasets.MNIST.mirrors)
            # The checksum is that of the packed file, which need not be kept.
            unpacked = {directory / name.removesuffix(".gz"): is_whole_idx_file}
            downloads.append(Download(urls, directory / name, md5, unpacked))
        return downloads

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
