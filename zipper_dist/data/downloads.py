"""Files that are downloaded on first use, and what to tell the user when that fails."""

from __future__ import annotations

import http.client
import os
import socket
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zipper_dist.errors import UserError

SILENCE = 10.0
"""Give up on a server that has sent nothing for so long [seconds]."""

IsWhole = Callable[[Path], bool]


@dataclass(frozen=True)
class Download:
    """One file on the internet, and the files of the data set that it brings."""

    urls: tuple[str, ...]
    """Its addresses; the first that works is used."""
    target: Path
    """Where it is stored."""
    md5: str
    """The published checksum of it."""
    files: Mapping[Path, IsWhole]
    """The files that the data set is read from, each with the check that it is whole: what
    ``target`` unpacks to in its directory, or ``target`` itself."""

    def missing(self) -> list[Path]:
        """The files that are not there."""
        return [path for path in self.files if not path.is_file()]

    def broken(self) -> list[Path]:
        """The files that are there but are not whole, or cannot be read."""
        return [path for path, is_whole in self.files.items() if _is_broken(path, is_whole)]


def has_md5(md5: str) -> IsWhole:
    """A check that a file has this checksum."""
    from torchvision.datasets.utils import check_integrity

    def check(path: Path) -> bool:
        return bool(check_integrity(path, md5))

    return check


def make_present(name: str, downloads: Sequence[Download]) -> None:
    """Download what is missing of the data set ``name``; writes nothing where all is there.

    Raises UserError when a download fails or a file that is there is broken.
    """
    _refuse_broken(name, downloads)
    for download in downloads:
        if not download.missing():
            continue
        try:
            with _limited_silence(SILENCE):
                _download(download)
        except _FAILURES as error:
            raise _missing_error(
                name, downloads, f"the download failed: {_one_line(error)}"
            ) from error


def require_whole(name: str, downloads: Sequence[Download]) -> None:
    """Raise UserError when a file of the data set ``name`` is missing or broken."""
    _refuse_broken(name, downloads)
    if any(download.missing() for download in downloads):
        raise _missing_error(name, downloads, "they have not been downloaded")


# What a network, a disk and an unpacker can raise (URLError is an OSError).
_FAILURES = (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError)


def _download(download: Download) -> None:
    """Store ``target``, unless a whole one is there, and unpack it."""
    from torchvision.datasets.utils import download_url, extract_archive

    target = download.target
    for attempt, url in enumerate(download.urls, start=1):
        try:
            with _removed_on_failure([target]):
                download_url(url, target.parent, target.name, download.md5)
            break
        except _FAILURES:
            if attempt == len(download.urls):
                raise
    if target not in download.files:
        with _removed_on_failure(download.missing()):
            extract_archive(os.fspath(target), os.fspath(target.parent))


@contextmanager
def _removed_on_failure(paths: Sequence[Path]) -> Iterator[None]:
    """Leave no half-written files: the next start would take them for the user's broken ones."""
    new = [path for path in paths if not path.exists()]
    try:
        yield
    except BaseException:  # a keyboard interrupt too
        for path in new:
            with suppress(OSError):
                path.unlink()
        raise


@contextmanager
def _limited_silence(seconds: float) -> Iterator[None]:
    """Limit how long a new connection may be silent; by default it may be for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _is_broken(path: Path, is_whole: IsWhole) -> bool:
    if not path.is_file():
        return False
    try:
        return not is_whole(path)
    except OSError:
        return True


def _refuse_broken(name: str, downloads: Sequence[Download]) -> None:
    broken = [path for download in downloads for path in download.broken()]
    if broken:
        raise UserError(
            f"{name}: truncated, corrupt or unreadable: {_joined(broken)}. "
            f"Delete {'it' if len(broken) == 1 else 'them'} and start again, "
            "and what is missing will be downloaded"
        )


def _missing_error(name: str, downloads: Sequence[Download], reason: str) -> UserError:
    wanted = [download for download in downloads if download.missing()] or list(downloads)
    missing = [path for download in wanted for path in download.missing()]
    folder = _joined(sorted({str(path.parent.absolute()) for path in missing}))
    return UserError(
        f"{name}: missing {_joined(path.name for path in missing)} in {folder}: {reason}. "
        f"Put {_joined(download.target.name for download in wanted)} "
        f"(from {_joined(download.urls[0] for download in wanted)}) "
        f"in {wanted[0].target.parent.absolute()}, "
        "or give the directory that has the data set with --data.root"
    )


def _joined(parts: Iterable[object]) -> str:
    return ", ".join(str(part) for part in parts)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
