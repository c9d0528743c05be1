"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32×32 pixels in 10 or 100 classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zipper_dist.data.registry import DATASETS
from zipper_dist.data.torchvision_sets import DataFile, Raw, TorchvisionSet, has_md5


class CifarSet(TorchvisionSet):
    """CIFAR-10 or CIFAR-100."""

    def _kind(self) -> Any:
        from torchvision import datasets

        return datasets.CIFAR10 if self.classes == 10 else datasets.CIFAR100

    def files(self, root: Path) -> list[DataFile]:
        """See :class:`TorchvisionSet`."""
        kind = self._kind()
        folder, archive = root / kind.base_folder, root / kind.filename
        named = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        return [
            DataFile(folder / name, has_md5(md5), archive, kind.tgz_md5, (kind.url,))
            for name, md5 in named
        ]

    def open(self, root: Path, train: bool) -> Raw:
        """See :class:`TorchvisionSet`."""
        dataset = self._kind()(root, train=train)
        return dataset.data, dataset.targets, tuple(dataset.classes)


DATASETS.register("cifar10")(CifarSet("cifar10", (32, 32, 3), 10))
DATASETS.register("cifar100")(CifarSet("cifar100", (32, 32, 3), 100))
