"""Generated images in a NumPy file, which take a share of every minibatch."""

import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zipper_dist.config.paths import expanded
from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.errors import UserError

WANTED = "give an uncompressed .npz file with uint8 image (N, H, W, C) and integer label (N,)"
LOCAL_HEADER = struct.Struct("<26xHH")
"""What stands before a member of a zip file: here the lengths of its name and extra field."""


def read_extra(config: DataConfig) -> ImageSet | None:
    """The images of ``config.extra``, which stay in their file until they are used; None if there
    are none. UserError: it cannot be read, or has not the arrays that it should."""
    if config.extra is None:
        return None
    option = f"--data.extra {config.extra}"
    path = expanded(config.extra, "--data.extra")
    images, labels = labelled_images(path, option)
    with zipfile.ZipFile(path) as archive:  # its directory has a checksum of the images
        content = f"generated images, CRC-32 {archive.getinfo('image.npy').CRC:08x}"
    return ImageSet(_tensor(images).permute(0, 3, 1, 2), _tensor(labels), files=(content,))


def labelled_images(path: Path, option: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (N, H, W, C), which stay in their file, and labels of an .npz file; UserError about
    ``option``: it cannot be read, or has not these arrays."""
    try:
        images, labels = _mapped(path, "image", option), _mapped(path, "label", option)
    except OSError as error:
        raise UserError(f"{option}: cannot be read ({error.strerror}): {WANTED}") from None
    except (zipfile.BadZipFile, ValueError, struct.error) as error:
        raise UserError(f"{option}: no .npz file, or damaged ({error}): {WANTED}") from None
    return checked(images, labels, option)


def checked(
    images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic], option: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The arrays, if they are images and their labels; UserError about ``option`` if not."""
    integers = np.issubdtype(labels.dtype, np.integer)
    if images.dtype != np.uint8 or images.ndim != 4 or not integers or labels.ndim != 1:
        found = f"image is {_described(images)}, and label {_described(labels)}"
        raise UserError(f"{option}: {found}: {WANTED}")
    if len(images) != len(labels) or len(images) == 0:
        found = f"{len(images)} images and {len(labels)} labels"
        raise UserError(f"{option}: has {found}: give as many labels as images, 1 or more")
    return images.astype(np.uint8, copy=False), labels.astype(np.int64, copy=False)


def check_extra(extra: ImageSet, train: ImageSet, classes: int, config: DataConfig) -> None:
    """Raise UserError unless the images go with those of ``train`` in one minibatch."""
    (_, *found), (_, *wanted) = extra.images.shape, train.images.shape
    if found != wanted:
        has, needed = (f"{h}×{w} pixels and {c} channels" for c, h, w in (found, wanted))
        raise UserError(
            f"--data.extra {config.extra}: its images have {has}, and those of {config.source} "
            f"{needed}: give images of {needed} (--data.image-size resizes those of "
            f"{config.source} alone)"
        )
    lowest, highest = int(extra.labels.min()), int(extra.labels.max())
    if lowest < 0 or highest >= classes:
        raise UserError(
            f"--data.extra {config.extra}: its labels go from {lowest} to {highest}: give 0 to "
            f"{classes - 1}, the classes of {config.source}"
        )


def _mapped(path: Path, name: str, option: str) -> npt.NDArray[np.generic]:
    """An array of an .npz file, mapped into memory where it stands in the file."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        try:
            member = archive.getinfo(f"{name}.npy")
        except KeyError:
            has = ", ".join(each.removesuffix(".npy") for each in archive.namelist()) or "none"
            raise UserError(f"{option}: has no array {name} (it has {has}): {WANTED}") from None
        if member.compress_type != zipfile.ZIP_STORED:
            copy = f"'{path.stem}-plain.npz', image=a['image'], label=a['label']"
            raise UserError(
                f"{option}: is compressed, and cannot be used where it stands: make a copy that is "
                f"not, by python -c \"import numpy; a = numpy.load('{path}'); numpy.savez({copy})\""
            )
        file.seek(member.header_offset)
        lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        start = file.seek(sum(lengths), os.SEEK_CUR)
        shape, fortran, dtype = _header(file)
        offset = file.tell()
    if offset + dtype.itemsize * int(np.prod(shape)) != start + member.file_size:
        raise ValueError(f"{name}.npy has {member.file_size} bytes, not those of {dtype} {shape}")
    if 0 in shape:  # nothing that could be mapped
        return np.empty(shape, dtype)
    order: str = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset, shape, order)  # type: ignore[call-overload,no-any-return]


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether it is in Fortran's order, and type of the array that begins here."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _tensor(array: npt.NDArray[np.generic]) -> Tensor:
    with warnings.catch_warnings():  # that it must not be written, which nothing does
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def _described(array: npt.NDArray[np.generic]) -> str:
    return f"{array.dtype} {array.shape}"
