import gzip
import hashlib
import pickle
import shutil
import socket
import tarfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import DATASETS, fetch, load
from zipper_dist.data.registry import Parts
from zipper_dist.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"
MNIST_FILES = [
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
]


def config(source: str, root: Path) -> DataConfig:
    return DataConfig(source=source, root=root, validation="test")


def read(config: DataConfig) -> Parts:
    return DATASETS[config.source].read(config)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """There is no network: every request fails at once. The addresses that were asked for."""
    asked: list[str] = []

    def fail(url: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        # A connection that is never answered must not keep the user waiting for ever.
        assert 0 < (socket.getdefaulttimeout() or 0) <= 30
        raise URLError("no network")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", fail)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", fail)
    return asked


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in MNIST's file format."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """The root of a small data set in MNIST's format."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 10)):
        images = draw.integers(0, 256, (count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 10))
    return tmp_path


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a small data set in CIFAR-10's format, with its checksums made known."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    draw = np.random.default_rng(0)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for name in names:
        content = {
            "data": draw.integers(0, 256, (4, 3072), dtype=np.uint8),
            "labels": draw.integers(0, 10, 4).tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    sums = [[name, md5(folder / name)] for name in names]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", sums[5:])
    meta = {**datasets.CIFAR10.meta, "md5": md5(folder / "batches.meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return tmp_path


@pytest.mark.skipif(not (SHARED / "MNIST").is_dir(), reason=f"no MNIST in {SHARED}")
def test_reads_the_real_mnist() -> None:
    fetch(config("mnist", SHARED))
    data = load(DataConfig(source="mnist", root=SHARED), seed=0)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [54000, 6000, 10000]
    assert (data.channels, data.height, data.width) == (1, 28, 28)
    assert data.class_names == tuple("0123456789")
    # The first ten labels of the published test set.
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_fetch_and_read_write_nothing_where_all_is_there(mnist: Path, requests: list[str]) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [mnist, *mnist.rglob("*")]}

    before = state()
    fetch(config("mnist", mnist))
    train, test, _ = read(config("mnist", mnist))
    assert state() == before
    assert requests == []
    assert (train.images.shape, len(test)) == ((30, 1, 28, 28), 10)
    assert train.labels.tolist() == [number % 10 for number in range(30)]


def test_mnist_files_that_are_packed_are_unpacked(
    mnist: Path, monkeypatch: pytest.MonkeyPatch, requests: list[str]
) -> None:
    expected = read(config("mnist", mnist))[0]
    resources = []
    for name in MNIST_FILES:
        path = mnist / "MNIST" / "raw" / name
        packed = path.with_name(f"{name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        resources.append((packed.name, md5(packed)))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    fetch(config("mnist", mnist))
    assert requests == []
    assert torch.equal(read(config("mnist", mnist))[0].images, expected.images)


@pytest.mark.parametrize("name", MNIST_FILES)
@pytest.mark.parametrize("length", [0, 3, 10, -1])
def test_names_the_mnist_file_that_is_truncated(mnist: Path, name: str, length: int) -> None:
    path = mnist / "MNIST" / "raw" / name
    path.write_bytes(path.read_bytes()[:length])
    for step in (fetch, read):
        with pytest.raises(UserError, match=f"{path}. Delete it and start again") as caught:
            step(config("mnist", mnist))
        assert sum(file in str(caught.value) for file in MNIST_FILES) == 1


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("train-labels-idx1-ubyte", np.full(30, 10), "labels from 10 to 10, not 0 to 9"),
        ("train-labels-idx1-ubyte", np.zeros(29), "30 images and 29 labels"),
        ("t10k-images-idx3-ubyte", np.zeros((10, 8, 8)), r"images of uint8 \(8, 8, 1\)"),
        ("train-images-idx3-ubyte", np.zeros(5), "x should have 3 dimension"),
    ],
)
def test_refuses_mnist_files_with_other_content(
    mnist: Path, name: str, content: np.ndarray, complaint: str
) -> None:
    (mnist / "MNIST" / "raw" / name).write_bytes(idx(content))
    with pytest.raises(UserError, match=f"{mnist / 'MNIST' / 'raw'} are corrupt .*{complaint}"):
        load(config("mnist", mnist), seed=0)


def test_says_which_mnist_files_are_missing(tmp_path: Path, requests: list[str]) -> None:
    with pytest.raises(UserError, match=r"no network.*--data\.root") as caught:
        fetch(config("mnist", tmp_path))
    for name in MNIST_FILES:
        assert f"{datasets.MNIST.mirrors[0]}{name}.gz" in str(caught.value)
    assert f"in {tmp_path / 'MNIST' / 'raw'}" in str(caught.value)
    assert len(requests) == len(datasets.MNIST.mirrors), "all mirrors must be tried"
    assert "\n" not in str(caught.value)


def test_says_where_to_put_the_cifar10_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch(config("cifar10", tmp_path))
    message = str(caught.value)
    address = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    assert f"Put cifar-10-python.tar.gz (from {address}) in {tmp_path}, " in message
    assert "data_batch_5, test_batch, batches.meta" in message
    assert "the download failed: URLError: <urlopen error no network>" in message
    assert "--data.root" in message


@pytest.mark.parametrize("source", ["mnist", "cifar10", "cifar100", "svhn"])
def test_load_without_fetch_says_what_is_missing(source: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{source}: missing .*in {tmp_path}.*--data\.root"):
        load(config(source, tmp_path / "nowhere"), seed=0)
    assert not (tmp_path / "nowhere").exists()


def test_an_interrupted_download_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str, target: str) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(config("svhn", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"the download failed: .*file.*--data\.root"):
        fetch(config("svhn", tmp_path / "file"))


def test_reads_cifar10(cifar10: Path, requests: list[str]) -> None:
    fetch(config("cifar10", cifar10))
    data = load(config("cifar10", cifar10), seed=0)
    assert requests == []
    assert (len(data.train), len(data.test), data.class_names) == (20, 4, tuple("abcdefghij"))
    with (cifar10 / "cifar-10-batches-py" / "data_batch_2").open("rb") as file:
        content = pickle.load(file)
    assert torch.equal(data.train.images[4:8], torch.from_numpy(content["data"]).view(4, 3, 32, 32))
    assert data.train.labels[4:8].tolist() == content["labels"]


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_names_the_cifar10_file_that_is_corrupt(cifar10: Path, name: str) -> None:
    path = cifar10 / "cifar-10-batches-py" / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for step in (fetch, read):
        with pytest.raises(UserError, match=f": {path}. Delete it and start again"):
            step(config("cifar10", cifar10))


def test_a_cifar10_archive_put_in_place_is_unpacked(
    cifar10: Path, monkeypatch: pytest.MonkeyPatch, requests: list[str]
) -> None:
    archive = cifar10 / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar10 / "cifar-10-batches-py", "cifar-10-batches-py")
    shutil.rmtree(cifar10 / "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    fetch(config("cifar10", cifar10))
    assert requests == []
    assert len(load(config("cifar10", cifar10), seed=0).train) == 20


def test_reads_svhn_with_ten_as_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 12), dtype=np.uint8)
    files = {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        labels = np.arange(1, 13).reshape(12, 1) % 10 + 1
        savemat(path, {"X": images, "y": labels.astype(np.uint8)})
        files[part] = [f"http://localhost/{path.name}", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", files)
    fetch(config("svhn", tmp_path))
    data = load(config("svhn", tmp_path), seed=0)
    assert data.test.labels.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3]
    assert torch.equal(data.train.images[5], torch.from_numpy(images[..., 5]).permute(2, 0, 1))
    (tmp_path / "test_32x32.mat").write_bytes(b"")
    with pytest.raises(UserError, match=r"test_32x32\.mat\. Delete it and start again"):
        fetch(config("svhn", tmp_path))
