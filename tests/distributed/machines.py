"""Two network namespaces, joined by a cable, that stand for machines."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ADDRESSES = ("10.99.0.1", "10.99.0.2")
ETC = Path("/etc/netns")  # what is in NAME there, the namespace NAME has in /etc


def ip(*words: str) -> None:
    """Run the command of that name."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def two_joined() -> Iterator[tuple[str, str]]:
    """The names of two network namespaces, joined by the link ``cable`` with ``ADDRESSES``. Both
    know these names."""
    names = (f"zipper-{os.getpid()}-a", f"zipper-{os.getpid()}-b")
    lines = [*zip(ADDRESSES, names, strict=True), ("127.0.0.1", "localhost")]
    hosts = "".join(f"{address} {name}\n" for address, name in lines)
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                (ETC / name).mkdir(parents=True)
                (ETC / name / "hosts").write_text(hosts)
            first, second = names
            link = ["link", "add", "cable", "netns", first, "type", "veth"]
            ip(*link, "peer", "name", "cable", "netns", second)
            for name, address in zip(names, ADDRESSES, strict=True):
                ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
                ip("-n", name, "link", "set", "cable", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or error
            pytest.skip(f"network namespaces cannot be made here: {reason}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(ETC / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            ETC.rmdir()


def on_machine(name: str, *isolation: str) -> list[str]:
    """What goes before a command to run it in the namespace ``name``, which is its host name too;
    ``isolation``: further options of unshare."""
    own = ["unshare", "--uts", *isolation, "sh", "-c", f'hostname {name}; exec "$@"', "sh"]
    return ["ip", "netns", "exec", name, *own]
