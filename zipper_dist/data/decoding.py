"""Image files of every kind as RGB images of 8 bits a channel."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


OF_THE_CONTENT = (None, errno.EINVAL, errno.EOVERFLOW)
"""Numbers that an OSError has where content is to blame: decoders give none, and damaged content
may send them to a place that no file has."""


class Unreadable(Exception):
    """A file holds no image that can be used; the message says why."""


def special_file(path: str) -> str | None:
    """What ``path`` is if it is no file with data, which must not even be opened; else None.
    OSError: that cannot be seen for now."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP) and os.path.islink(path):
            return "a broken link"
        raise
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    devices = dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), "a device")
    return (kinds | devices).get(stat.S_IFMT(mode))


@contextlib.contextmanager
def warnings_of_pillow() -> Iterator[None]:
    """For the duration, a file whose image is so large that Pillow warns of it is unreadable, and
    other warnings, of damaged EXIF data and the like, are not shown."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_rgb(path: str, content: bytes | None = None) -> Image.Image:
    """Decode a file to RGB, the first image of an animation; raises Unreadable where its content
    is no image that can be used, and an OSError that names it where the machine is to blame.
    ``content``: of the file, if it is not to be read.

    It is turned as its EXIF orientation says. Grey of 16 or 32 bits and of floating-point numbers
    is scaled to 8 bits; transparency is ignored. The manual has a table of all kinds.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with open(path, "rb") if content is None else io.BytesIO(content) as file:
            image = Image.open(file)
            image.load()
            _turn_upright(image)
            return _rgb(image)
    except Unreadable:
        raise
    except UnidentifiedImageError:  # its message names the file
        raise Unreadable("no kind of image that is known") from None
    except Exception as error:  # every decoder has its own
        if number := _of_the_machine(error):
            raise OSError(number, os.strerror(number), path) from error
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from error


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """``image`` in (width, height) ``size`` [pixels]."""
    from PIL import Image

    # Pillow's bilinear filter widens when it shrinks an image: it is antialiased.
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _turn_upright(image: Image.Image) -> None:
    """Turn ``image`` as its EXIF orientation says, if that can be read."""
    from PIL import ImageOps

    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # as many as there are ways to damage EXIF data
        if _of_the_machine(error):
            raise


def _of_the_machine(error: Exception) -> int | None:
    """The number of an error that says nothing of the content of a file, such as EIO."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno not in OF_THE_CONTENT:
        return error.errno
    return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # I, I;16 in any byte order, F
        return _grey_of_8_bits(image).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # without a warning, and the same colours
    return image.convert("RGB")


def _grey_of_8_bits(image: Image.Image) -> Image.Image:
    """Scale grey values so that the largest of their kind becomes 255."""
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    # Pillow reads PNG and PGM files of 16 bits as 32 bits, too.
    of_32_bits = image.mode == "I" and image.format not in ("PNG", "PPM")
    white = 1.0 if image.mode == "F" else float(2**31 - 1 if of_32_bits else 2**16 - 1)
    if not (values.min() >= 0 and values.max() <= white):  # NaN is none of both
        found = f"its values go from {values.min():g} to {values.max():g}"
        raise Unreadable(f"{found}, not from 0 (black) to {white:g} (white)")
    pixels = np.rint(values * (255 / white)).astype(np.uint8)
    if of_32_bits and values.any() and not pixels.any():
        raise Unreadable(f"it has 32 bits, but no value above {values.max():g}: store 8 or 16")
    return Image.fromarray(pixels)
