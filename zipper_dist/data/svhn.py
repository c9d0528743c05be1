"""SVHN: 99,289 colour images of 32×32 pixels of the digits of house numbers."""

from __future__ import annotations

from pathlib import Path

from zipper_dist.data.registry import DATASETS
from zipper_dist.data.torchvision_sets import DIGIT_NAMES, DataFile, Raw, TorchvisionSet, has_md5


class Svhn(TorchvisionSet):
    """Street View House Numbers, cropped digits."""

    def files(self, root: Path) -> list[DataFile]:
        """See :class:`TorchvisionSet`."""
        from torchvision import datasets

        published = [datasets.SVHN.split_list[part] for part in ("train", "test")]
        return [
            DataFile(root / name, has_md5(md5), root / name, md5, (url,))
            for url, name, md5 in published
        ]

    def open(self, root: Path, train: bool) -> Raw:
        """See :class:`TorchvisionSet`."""
        from torchvision import datasets

        dataset = datasets.SVHN(root, split="train" if train else "test")
        return dataset.data.transpose(0, 2, 3, 1), dataset.labels, DIGIT_NAMES


DATASETS.register("svhn")(Svhn("svhn", (32, 32, 3), 10))
