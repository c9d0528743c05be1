"""Bad input: one clear line that names the option and its value, a status, no traceback, soon."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from end_to_end.commands import Output, started, typed
from end_to_end.conftest import Here

SOON = 60.0
FILE_IN_THE_WAY = "a-file"

# What is given, and what the message must name.
CASES: dict[str, tuple[str, list[str]]] = {
    "unknown recipe": ("imagenet", ["unknown recipe 'imagenet'", "cifar100, digits, folder"]),
    "unknown option": ("digits --no-such-option 3", ["--no-such-option"]),
    "two recipes": ("--seed 1 digits mnist", ["mnist"]),
    "option of a learner that is not there": (
        "digits --learners.nobody.lr 1",
        ["--learners.nobody.lr"],
    ),
    "word for a number": ("digits --steps many", ["--steps", "'many'"]),
    "threads without end": ("digits --threads 100000", ["--threads 100000", "at most 1024"]),
    "giant images": ("digits --data.image-size 2147483648", ["--data.image-size 2147483648"]),
    "images beyond memory": ("digits --data.image-size 900000", ["--data.limit", "GiB"]),
    "a huge interval": ("digits --mix.every 1e308ep", ["--mix.every", "'1e308ep'"]),
    "a huge schedule": (
        "digits --learners.natural.schedule 0:1,1:1e308",
        ["--learners.natural.schedule 0:1,1:1e+308", "0 … 1e+06"],
    ),
    "no such user": (
        "folder --data.root ~nosuchuser/x",
        ["--data.root ~nosuchuser/x", "no such user"],
    ),
    "one image for BatchNorm": (
        "digits --batch-size 1 --data.limit 50",
        ["--batch-size 1", "BatchNorm", "2 or more"],
    ),
    "endless steps": (f"digits --steps {10**30}", [f"--steps {10**30}", "at most"]),
    "an empty path": ("digits --run-dir=", ["--run-dir", "empty"]),
    "a giant network": ("digits --model.width 64", ["--model.width 64", "GiB of memory"]),
    "unknown choice": ("digits --device tpu", ["--device", "'tpu'", "'auto', 'cpu', 'cuda'"]),
    "unknown network": ("digits --model.arch vgg", ["--model.arch vgg", "resnet18, small_cnn"]),
    "unknown data set": ("digits --data.source cifar", ["--data.source cifar", "digits, folder"]),
    "unknown objective": (
        "digits --learners.natural.objective sgd",
        ["--learners.natural.objective sgd", "at, fat, mart, natural, trades"],
    ),
    "objective that is not there": (
        "digits --learners.natural.objective absent.py:Mine",
        ["--learners.natural.objective absent.py:Mine", "cannot be loaded"],
    ),
    "weights that do not sum to 1": (
        "digits --mix.weights.natural 0.5 --mix.weights.adversarial 0:0.5,0.7:0.2,1:0.5",
        ["--mix.weights: their sum at progress 0.7 is 0.7 (natural 0.5 + adversarial 0.2)"],
    ),
    "a weight of one learner": (
        "digits --mix.weights.natural 0.5",
        ["--mix.weights.adversarial: give every learner (natural, adversarial)"],
    ),
    "more than the whole run": ("digits --mix.start 1.5", ["--mix.start", "'1.5'", "at most 1.0"]),
    "threat model that is none": (
        "digits --eval.threats linf:0.1 l3:1",
        ["--eval.threats", "'l3:1'", "linf:8/255"],
    ),
    "a timeline that goes back": ("digits --trace 9:3", ["--trace", "'9:3'", "FIRST:LAST"]),
    "a timeline beyond the run": (
        "digits --steps 5 --trace 3:9",
        ["--trace 3:9", "the run has 5 iterations", "within 1:5"],
    ),
    "threats twice": ("digits --eval.threats l2:1 --eval.eps 1", ["--eval.threats", "--eval.eps"]),
    "no file": ("digits --config absent.yaml", ["--config absent.yaml", "No such file"]),
    "schedule that goes back": ("digits --mix.gamma 0:0.5,0:1", ["--mix.gamma", "'0:0.5,0:1'"]),
    "schedule that is none": ("digits --mix.gamma abc", ["--mix.gamma", "'abc'", "0:1,0.667:1"]),
    "interval that is none": ("digits --mix.every 5x", ["--mix.every", "'5x'", "5ep"]),
    "negative interval": ("digits --mix.every -1", ["--mix.every", "'-1'"]),
    "β without a use": (
        "digits-at --learners.adversarial.beta 6",
        ["--learners.adversarial.beta: at has no such option", "mart and trades have it"],
    ),
    "unknown method": ("digits-sgd", ["unknown recipe 'digits-sgd'", "-natural, ", ", -trades"]),
    "γ above 1": ("digits --mix.gamma 0:0.5,1:1.5", ["--mix.gamma 0:0.5,1:1.5"]),
    "no evaluation": ("digits --eval.every 0", ["--eval.every 0"]),
    "ε of 0": (
        "digits --learners.adversarial.attack.eps 0",
        ["--learners.adversarial.attack.eps 0"],
    ),
    "ε above the pixel range": (
        "digits --learners.adversarial.attack.eps 8",
        ["--learners.adversarial.attack.eps 8", "up to 1"],
    ),
    "ε that is no number": (
        "digits --learners.adversarial.attack.eps nan",
        ["--learners.adversarial.attack.eps nan"],
    ),
    "negative learning rate": ("digits --learners.natural.lr -1", ["--learners.natural.lr -1"]),
    "batch of 0": ("digits --batch-size 0", ["--batch-size 0"]),
    "batch above the data": ("digits --batch-size 100000", ["--batch-size 100000", "1293"]),
    "no steps": ("digits --steps 0", ["--steps 0"]),
    "no threads": ("digits --threads 0", ["--threads 0"]),
    "several at once": ("digits --steps 0 --batch-size -1", ["--steps 0", "--batch-size -1"]),
    "validation of what is not there": (
        "digits --data.validation half",
        ["--data.validation half"],
    ),
    "validation of all images": ("digits --data.validation 1437", ["--data.validation 1437"]),
    "image too small for the network": (
        "digits --model.arch small_cnn --data.image-size 4",
        ["4×4", "small_cnn"],
    ),
    "crop beyond the image": ("digits --data.crop-padding 16", ["--data.crop-padding 16"]),
    "absent folder": ("folder --data.root absent", ["absent/train", "--data.root"]),
    "truncated files": ("mnist --data.root truncated", ["train-images-idx3-ubyte", "truncated"]),
    "run directory below a file": (
        f"digits --run-dir {FILE_IN_THE_WAY}/run",
        [f"--run-dir {FILE_IN_THE_WAY}/run", "cannot be written"],
    ),
    "run directory that is a file": (
        f"digits --run-dir {FILE_IN_THE_WAY}",
        [f"--run-dir {FILE_IN_THE_WAY}", "cannot be written"],
    ),
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    """What some of the commands meet in their working directory."""
    (tmp_path / FILE_IN_THE_WAY).write_text("")
    raw = tmp_path / "truncated" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 30), ("t10k", 10)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            header = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + np.zeros(shape, np.uint8).tobytes())
    broken = raw / "train-images-idx3-ubyte"
    broken.write_bytes(broken.read_bytes()[:-1])


def assert_one_message(output: Output, names: list[str]) -> None:
    """One line, or one box, that has all of ``names``, after what the command said it begins."""
    assert all(line.endswith(" …") for line in output.stdout.splitlines())
    assert "Traceback" not in output.stderr
    if output.stderr.startswith("zipper: error: "):
        (text,) = output.stderr.splitlines()
    else:
        # A box, whose lines end in its right side; where it cannot be drawn, it is made of spaces.
        lines = output.stderr.splitlines()
        assert {line[0] for line in lines} in ({"╭", "│", "╰"}, {" "})
        assert len({len(line) for line in lines}) == 1
        text = " ".join(" ".join(line.strip("│ ") for line in lines).split())
        assert text.count("helptext, ") == 1
    for name in names:
        assert name in text


@pytest.mark.parametrize("case", CASES)
def test_one_message_and_status_2(
    tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arguments, names = CASES[case]
    # Should it be taken for good input, the test fails soon.
    assert here(*arguments.split(), "--epochs", "1") == 2
    output = capsys.readouterr()
    assert_one_message(Output(output.out, output.err), names)
    assert not list(tmp_path.glob("runs/*/config.json"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    assert here("digits", "--device", "cuda") == 2
    output = capsys.readouterr()
    assert_one_message(Output(output.out, output.err), ["--device cuda", "no GPU", "--device cpu"])


def test_the_corrected_command_runs_in_the_same_directory(tmp_path: Path, here: Here) -> None:
    correct = typed("""
        digits --model.arch small_cnn --data.image-size 16 --steps 1 --data.limit 50
        --eval.attack-steps 1 --threads 1
    """)
    for mistake in (["--batch-size", "4000"], ["--data.image-size", "4"]):
        assert here(*correct, *mistake) == 2
    assert here(*correct, "--batch-size", "8") == 0
    assert (tmp_path / "runs" / "digits-seed0" / "summary.json").exists()


# Nobody listens there, so that with a network, too, no data set can be downloaded.
NO_NETWORK = {
    **dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
    ),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), ""),
}


def alone(arguments: str, at: Path, ranks: int = 1) -> list[Output]:
    """What the processes print that end for this reason; none of them is left when this returns."""
    with started(*arguments.split(), at=at, ranks=ranks, environment=NO_NETWORK) as command:
        finished = command.wait()
    assert finished.seconds < SOON
    # torchrun has a status of its own.
    assert finished.status == (2 if ranks == 1 else 1)
    return list(finished.ranks)


def test_a_process_of_its_own(tmp_path: Path) -> None:
    (output,) = alone("mnist --data.root truncated", tmp_path)
    assert_one_message(output, CASES["truncated files"][1])


def test_data_that_cannot_be_downloaded(tmp_path: Path) -> None:
    (output,) = alone("cifar10 --data.root empty", tmp_path)
    assert_one_message(
        output,
        ["data_batch_1", "cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "empty", "--data.root"],
    )


@pytest.mark.parametrize(
    ("arguments", "ranks", "names"),
    [
        pytest.param(
            CASES["absent folder"][0], 2, CASES["absent folder"][1], id="only the first finds it"
        ),
        pytest.param(
            "digits --placement.shards 3",
            2,
            ["--placement.shards 3", "--batch-size 64", "4"],
            id="shards that do not divide",
        ),
        pytest.param(
            "digits --placement.mode shared --placement.shards 1",
            2,
            ["2 ranks", "shards of a learner: 1", "--placement.shards"],
            id="more ranks than shards",
        ),
        pytest.param(
            "digits --placement.ranks natural=1,adversarial=3",
            2,
            ["--placement.ranks natural=1,adversarial=3", "4 ranks", "2 were started"],
            id="other ranks than were started",
        ),
        pytest.param(
            "digits --placement.ranks natural=1,robust=1",
            2,
            ["--placement.ranks natural=1,robust=1", "natural, adversarial"],
            id="ranks for an unknown learner",
        ),
    ],
)
def test_all_ranks_end_after_one_message(
    tmp_path: Path, arguments: str, ranks: int, names: list[str]
) -> None:
    first, *others = alone(arguments, tmp_path, ranks)
    assert_one_message(first, names)
    assert [output.text for output in others] == [""] * (ranks - 1)
