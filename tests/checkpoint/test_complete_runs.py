"""Whether a run directory holds a complete run."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipper_dist.checkpoint.run_directory import RunDirectory, write_json
from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec, build

SPEC = ModelSpec("small_cnn", 1, 16, 16, 10, 0.25)
SUMMARY = {
    "recipe": "digits",
    "steps": 3,
    "wall_seconds": 1.5,
    "evaluation_attack": {"norm": "linf", "eps": 0.1, "step_size": None, "steps": 20},
    "final": {"images": 40, "learners": {"global": {"clean": 50.0, "robust": 25}}},
    "best": None,
    "ranks": [],
}


def test_a_run_is_finished_when_its_summary_is_there(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.finished() is None
    write_json(directory.summary, SUMMARY)
    assert directory.finished() == SUMMARY


@pytest.mark.parametrize(
    "content",
    ["", "3", "null", "[]", "{}", '[["recipe", 1]]', '{"recipe": "digits"}', "\x00", "[" * 100_000],
    ids=lambda content: content[:20],
)
def test_a_damaged_summary_is_a_clear_error(tmp_path: Path, content: str) -> None:
    directory = RunDirectory(tmp_path)
    directory.summary.write_text(content)
    with pytest.raises(UserError) as raised:
        directory.finished()
    assert str(raised.value).startswith(f"{directory.summary} is damaged (")
    assert str(raised.value).endswith("; delete it to finish the run again")
    assert "\n" not in str(raised.value)


def test_weights_that_are_lost_are_noticed(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    names = ["whole", "other", "cut", "absent", "folder"]
    for number, name in enumerate(names[:3]):
        state = build(SPEC).state_dict()
        save_weights(directory.weights(name), state, SPEC, {"step": str(number)})
    digests = directory.digests(names[:3])
    assert directory.lost(names[:3], digests) == []
    # Sound, but not the file that was written.
    directory.weights("other").write_bytes(directory.weights("whole").read_bytes())
    with directory.weights("cut").open("r+b") as file:
        file.truncate(1000)
    directory.weights("folder").mkdir()
    assert directory.lost(names, digests) == ["other", "cut", "absent", "folder"]
    # Runs of earlier versions list no digests.
    assert directory.lost(names, {}) == ["cut", "absent", "folder"]
