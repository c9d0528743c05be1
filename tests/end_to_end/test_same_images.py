"""All ranks see the same images, and so does a run that is continued."""

from __future__ import annotations

from pathlib import Path

import pytest

from end_to_end.commands import Finished, started, succeeded, typed
from end_to_end.striped_images import make_folder

pytestmark = pytest.mark.slow

SHORT = typed("""
    folder --data.source mine.py:MINE --data.root images --data.image-size 16 --threads 1
    --device cpu --precision fp32 --compile off --steps 2 --batch-size 8 --eval.every 1
    --eval.attack-steps 1 --eval.limit 8 --model.arch small_cnn --model.width 0.25
    --learners.adversarial.attack.steps 1 --data.skip-unreadable --run-dir run
""")

MINE = """
import os
from dataclasses import replace
from zipper_dist.data.folder import Folder

class Mine(Folder):
    def read(self, config):
        train, test, names = super().read(config)
        if os.environ.get("RANK", "0") != os.environ.get("LACKING"):
            return train, test, names
        few = train.subset(torch.arange(1, len(train)))
        return replace(few.as_whole(), files=train.files[1:]), test, names

MINE = Mine()
"""
"""A folder that one rank sees without its first image."""


@pytest.fixture(autouse=True)
def images(tmp_path: Path) -> None:
    """Files in the working directory."""
    make_folder(tmp_path / "images", train=24, test=8, side=16)
    (tmp_path / "mine.py").write_text("import torch\n" + MINE)


def trained(at: Path, lacking: str, ranks: int = 1) -> Finished:
    """Train on ``ranks``, of which the one of number ``lacking`` lacks an image."""
    with started(*SHORT, at=at, ranks=ranks, environment={"LACKING": lacking}) as command:
        return command.wait()


def test_ranks_that_see_other_images_are_named(tmp_path: Path) -> None:
    ended = trained(tmp_path, lacking="1", ranks=2)
    assert ended.status != 0
    assert "rank 1 sees other images than rank 0 in --data.root images: give all" in ended.said
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_that_goes_on_with_other_images_says_so(tmp_path: Path) -> None:
    warning = "warning: this run was begun with other images"
    summary = tmp_path / "run" / "summary.json"
    assert warning not in succeeded(trained(tmp_path, lacking="none")).said
    summary.unlink()
    assert warning not in succeeded(trained(tmp_path, lacking="none")).said
    summary.unlink()
    continued = succeeded(trained(tmp_path, lacking="0"))
    assert warning in continued.said
    assert "continuing from iteration 2" in continued.said
