"""Training with a share of generated images: the same bits, however many ranks there are."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from data.generated import write

from end_to_end.commands import SMALL, Command, stopped, succeeded, train, typed
from end_to_end.conftest import Here, Run
from end_to_end.results import assert_same_result, records, weights

pytestmark = pytest.mark.slow

SHARE = [
    *SMALL,
    *typed("--data.extra more.npz --data.extra-fraction 0.6 --data.crop-padding 1 --data.flip"),
]


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """A working directory with generated images."""
    write(tmp_path / "more.npz")
    return tmp_path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One process, uninterrupted."""
    at = tmp_path_factory.mktemp("alone")
    write(at / "more.npz")
    return Run(at, succeeded(train(*SHARE, at=at)))


def test_two_ranks_end_with_the_bits_of_one(alone: Run, at: Path) -> None:
    succeeded(train(*SHARE, at=at, ranks=2))
    assert_same_result(alone.path, at / "run")


def test_generated_images_count(alone: Run, serial: Run) -> None:
    assert weights(alone.path)["global"] != weights(serial.path)["global"]
    # An epoch is as many iterations as without them.
    lengths = [
        {record["step"]: record["epoch"] for record in records(run.path / "metrics.jsonl")
         if record["learner"] == "natural"}
        for run in (alone, serial)
    ]  # fmt: skip
    assert lengths[0] == lengths[1]
    options = json.loads((alone.path / "config.json").read_text())["options"]
    assert options["data"]["extra"] == "more.npz"


def test_four_shards_of_one_process_and_of_two(at: Path, here: Here) -> None:
    few = typed("--steps 8 --mix.start 3 --mix.every 3 --placement.mode shared")
    options = [*SHARE, *few, "--placement.shards", "4"]
    assert here(*options, "--run-dir", "one") == 0
    succeeded(train(*options, at=at, ranks=2))
    assert_same_result(at / "one", at / "run")


def test_a_run_goes_on_exactly(alone: Run, at: Path) -> None:
    def interrupt(command: Command) -> None:
        command.process.send_signal(signal.SIGINT)

    stopped(interrupt, at, arguments=SHARE)
    finished = succeeded(train(*SHARE, at=at))
    assert "continuing from iteration" in finished.said
    assert_same_result(alone.path, at / "run")


def test_a_run_that_goes_on_with_another_file_says_so(
    at: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    short = [*SHARE, "--steps", "2", "--mix.start", "1", "--mix.every", "1", "--eval.every", "1"]
    warning = "this run was begun with other images"
    for count, warned in ((50, False), (50, False), (49, True)):
        write(at / "more.npz", count)
        assert here(*short) == 0
        (at / "run" / "summary.json").unlink()
        assert (warning in " ".join(capsys.readouterr().out.split())) is warned


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--data.extra", "none.npz"), "--data.extra none.npz: cannot be read (No such file"),
        (("--data.extra-fraction", "1"), "--data.extra-fraction 1.0: give 0 … below 1"),
        (("--data.extra-fraction", "0.01"), "is no image of a minibatch of 16: give 0.062 or"),
        (("--data.image-size", "9"), "have 8×8 pixels and 1 channels, and those of digits 9×9"),
    ],
)
def test_one_line_says_what_is_wrong(
    change: tuple[str, str], message: str, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Path("more.npz"))
    assert here(*SHARE, *change) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("zipper: error: ")
    assert error.count("\n") == 1
