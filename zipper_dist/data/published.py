"""The published data sets that torchvision reads: CIFAR-10, CIFAR-100, SVHN and MNIST."""

import math
from pathlib import Path
from typing import Any

from zipper_dist.data.registry import DATASETS
from zipper_dist.data.torchvision_sets import DataFile, Raw, TorchvisionSet, has_md5

DIGIT_NAMES = tuple("0123456789")


class Cifar(TorchvisionSet):
    """CIFAR-10 or CIFAR-100: 60,000 colour images."""

    def _kind(self) -> Any:
        from torchvision import datasets

        return datasets.CIFAR10 if self.classes == 10 else datasets.CIFAR100

    def files(self, root: Path) -> list[DataFile]:
        """See :class:`TorchvisionSet`."""
        kind = self._kind()
        folder, archive = root / kind.base_folder, root / kind.filename
        named = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        download = (archive, kind.tgz_md5, (kind.url,))
        return [DataFile(folder / name, has_md5(md5), *download) for name, md5 in named]

    def open(self, root: Path, train: bool) -> Raw:
        """See :class:`TorchvisionSet`."""
        dataset = self._kind()(root, train=train)
        return dataset.data, dataset.targets, tuple(dataset.classes)


class Svhn(TorchvisionSet):
    """Street View House Numbers, cropped digits: 99,289 colour images."""

    def files(self, root: Path) -> list[DataFile]:
        """See :class:`TorchvisionSet`."""
        from torchvision.datasets import SVHN

        parts = [SVHN.split_list[part] for part in ("train", "test")]
        return [DataFile(root / f, has_md5(md5), root / f, md5, (url,)) for url, f, md5 in parts]

    def open(self, root: Path, train: bool) -> Raw:
        """See :class:`TorchvisionSet`."""
        from torchvision.datasets import SVHN

        dataset = SVHN(root, split="train" if train else "test")
        return dataset.data.transpose(0, 2, 3, 1), dataset.labels, DIGIT_NAMES


class Mnist(TorchvisionSet):
    """MNIST: 70,000 grey images of handwritten digits."""

    def files(self, root: Path) -> list[DataFile]:
        """See :class:`TorchvisionSet`; the checksums are of archives that need not be kept."""
        from torchvision.datasets import MNIST

        folder = root / "MNIST" / "raw"
        files = []
        for name, md5 in MNIST.resources:
            urls = tuple(f"{mirror}{name}" for mirror in MNIST.mirrors)
            path = folder / name.removesuffix(".gz")
            files.append(DataFile(path, _is_whole_idx_file, folder / name, md5, urls))
        return files

    def open(self, root: Path, train: bool) -> Raw:
        """See :class:`TorchvisionSet`."""
        from torchvision.datasets import MNIST

        dataset = MNIST(root, train=train)
        return dataset.data.numpy()[..., None], dataset.targets.numpy(), DIGIT_NAMES


def _is_whole_idx_file(path: Path) -> bool:
    """Whether a file in MNIST's format (IDX, of bytes) is as long as its header says."""
    with path.open("rb") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\x00\x00\x08":
            return False
        header = file.read(4 * magic[3])
    sizes = [int.from_bytes(header[at : at + 4], "big") for at in range(0, len(header), 4)]
    return path.stat().st_size == 4 + 4 * magic[3] + math.prod(sizes)


for published in (
    Cifar("cifar10", (32, 32, 3), 10),
    Cifar("cifar100", (32, 32, 3), 100),
    Svhn("svhn", (32, 32, 3), 10),
    Mnist("mnist", (28, 28, 1), 10),
):
    DATASETS.register(published.name)(published)
