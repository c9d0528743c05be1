"""Images that stay on disk give the bits that those in memory give, and damaged ones end a job."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, stopped, succeeded, train, typed
from end_to_end.results import assert_same_result, weights
from end_to_end.striped_images import make_folder

pytestmark = pytest.mark.slow


def options(root: Path, store: str) -> list[str]:
    """SMALL on the images of a folder."""
    where = ["--data.root", str(root), "--data.cache", str(root / "cache"), "--data.store", store]
    return ["folder", *SMALL[1:], *where, *typed("--data.crop-padding 2 --data.flip")]


def test_images_on_disk(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", train=200, test=40, side=16)
    memory, disk, damaged = (tmp_path / name for name in ("memory", "disk", "damaged"))
    for directory in (memory, disk, damaged):
        directory.mkdir()
    succeeded(train(*options(root, "memory"), at=memory))
    # One process begins, and is told to end; two ranks go on.
    on_disk = options(root, "disk")
    terminate = stopped(lambda c: c.process.send_signal(signal.SIGTERM), disk, arguments=on_disk)
    assert terminate.finished.status == 128 + signal.SIGTERM
    goes_on = succeeded(train(*on_disk, at=disk, ranks=2))
    assert f"on disk, in {root / 'cache'}/folder-" in goes_on.said
    assert_same_result(memory / "run", disk / "run")
    assert len(set(weights(memory / "run").values())) > 2
    written = json.loads((disk / "run" / "config.json").read_text())["options"]["data"]
    assert (written["store"], written["cache"]) == ("disk", str(root / "cache"))

    (file, _) = sorted((root / "cache").glob("*.images"), key=lambda path: -path.stat().st_size)
    content = bytearray(file.read_bytes())
    for position in range(0, len(content), 50):
        content[position] ^= 1
    file.write_bytes(content)
    finished = train(*on_disk, at=damaged, ranks=2)
    assert finished.status != 0
    said = "\n".join(rank.stderr for rank in finished.ranks)
    found = [line for line in said.splitlines() if f"zipper: error: {file}: image " in line]
    assert found, said
    assert all("is damaged, as its checksum says: delete" in line for line in found)
