"""SVHN: 99,289 colour images of 32×32 pixels of the digits of house numbers."""

from __future__ import annotations

from pathlib import Path

from zipper_dist.data.downloads import Download, has_md5
from zipper_dist.data.registry import DATASETS
from zipper_dist.data.torchvision_sets import DIGIT_NAMES, Raw, TorchvisionSet


class Svhn(TorchvisionSet):
    """Street View House Numbers, cropped digits."""

    def downloads(self, root: Path) -> list[Download]:
        """See :class:`TorchvisionSet`."""
        from torchvision import datasets

        downloads = []
        for part in ("train", "test"):
            url, name, md5 = datasets.SVHN.split_list[part]
            downloads.append(Download((url,), root / name, md5, {root / name: has_md5(md5)}))
        return downloads

    def open(self, root: Path, train: bool) -> Raw:
        """See :class:`TorchvisionSet`."""
        from torchvision import datasets

        dataset = datasets.SVHN(root, split="train" if train else "test")
        return dataset.data.transpose(0, 2, 3, 1), dataset.labels, DIGIT_NAMES


DATASETS.register("svhn")(Svhn("svhn", (32, 32, 3), 10))
