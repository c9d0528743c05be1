"""The command itself, as a person starts it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from evaluation.commands import COMMAND, IMAGES, SHORT, evaluate
from evaluation.conftest import EPS, SPEC
from zipper_dist.config.threat import ThreatModel
from zipper_dist.evaluation.options import EvaluateOptions, ImageOptions
from zipper_dist.evaluation.results.report import wilson_interval
from zipper_dist.evaluation.run import run
from zipper_dist.evaluation.target import load_foreign

pytestmark = pytest.mark.slow


def flags(directory: Path, name: str = "evaluation") -> list[dict[str, str]]:
    with (directory / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def figures(directory: Path, name: str = "evaluation") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / f"{name}.json").read_text())
    return content


def without_times(content: dict[str, Any]) -> dict[str, Any]:
    for figure in content["attacks"].values():
        figure.pop("seconds")
    content.pop("ranks")
    return content


@pytest.fixture(scope="module")
def whole(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation by one process, uninterrupted, with everything kept."""
    out = tmp_path_factory.mktemp("whole")
    kept = out / "adversarial.safetensors"
    done = evaluate(run_directory, *SHORT, "--sanity", "--out", out, "--save-adversarial", kept)
    assert done.returncode == 0, done.stderr
    assert "pgd-20" in done.stdout
    assert "95 % interval" in done.stdout
    assert "passed" in done.stdout
    paths = str(out)
    assert all(len(text) <= 120 for text in done.stdout.splitlines() if paths not in text)
    return out


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_find_what_one_process_finds(
    run_directory: Path, whole: Path, tmp_path: Path, ranks: int
) -> None:
    """Example by example, with 8 blocks dealt unevenly to 3 ranks."""
    done = evaluate(run_directory, *SHORT, "--sanity", "--out", tmp_path, ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "evaluation.csv").read_bytes() == (whole / "evaluation.csv").read_bytes()
    here, there = without_times(figures(tmp_path)), without_times(figures(whole))
    assert here == there


@pytest.mark.parametrize("ranks", [0, 3])
def test_interrupted_and_continued_is_uninterrupted(
    run_directory: Path, whole: Path, tmp_path: Path, ranks: int
) -> None:
    """Continued by one process, or by three ranks, which share out what one had begun."""
    command = [sys.executable, *COMMAND, str(run_directory), *SHORT, "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "evaluation").glob("pgd-20-*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "the same command continues" in said
    assert "Traceback" not in said
    assert not (tmp_path / "evaluation.json").exists()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "evaluation").glob("*/*.safetensors")}
    assert before
    done = evaluate(*command[3:], ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "evaluation.csv").read_bytes() == (whole / "evaluation.csv").read_bytes()
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())


def test_a_frozen_rank_ends_the_evaluation(run_directory: Path, tmp_path: Path) -> None:
    launch = ["-m", "zipper_dist.launcher", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launch, *COMMAND, str(run_directory), "--out", str(tmp_path)]
    options = ["--attacks", "pgd-5000", "--threads", "1", "--timeout", "4"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "evaluation").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in children:
            if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(int(pid), signal.SIGSTOP)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode not in (0, None)
    assert "nothing was heard of rank 1 (host " in said
    assert said.count("zipper: error: ") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_changed_block_is_noticed_and_done_again(
    run_directory: Path, tmp_path: Path, ranks: int
) -> None:
    """All its examples are turned robust or broken, as a flipped byte would do in silence."""
    options = ["--attacks", "clean", "fgsm", "--first", "60", "--block-size", "30"]
    command = [str(run_directory), *options]
    assert evaluate(*command, "--out", tmp_path).returncode == 0
    first = (tmp_path / "evaluation.csv").read_bytes()
    changed = next((tmp_path / "evaluation").glob("fgsm-*/000001.safetensors"))
    content = bytearray(changed.read_bytes())
    content[-30:] = bytes(3 - state for state in content[-30:])
    changed.write_bytes(content)
    done = evaluate(*command, "--out", tmp_path, ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "evaluation.csv").read_bytes() == first
    assert f"{changed}: damaged" in " ".join(done.stdout.split())
    assert any(str(changed) in warning for warning in figures(tmp_path)["warnings"])
    assert "damaged" not in evaluate(*command, "--out", tmp_path).stdout


def test_what_the_files_hold(run_directory: Path, whole: Path, network: nn.Module) -> None:
    found, lines = figures(whole), flags(whole)
    assert found["threat"] == {"norm": "linf", "eps": EPS}
    assert found["data"] == {"name": "digits", "images": IMAGES, "of": 360, "chosen": "at random"}
    assert list(found["attacks"]) == ["clean", "pgd-20", "apgd-ce", "cw-5"]
    for name, figure in found["attacks"].items():
        correct = sum(line[name] == "1" for line in lines)
        assert figure["correct"] == correct
        assert figure["accuracy"] == pytest.approx(100 * correct / IMAGES)
        assert figure["interval"] == pytest.approx(list(wilson_interval(correct, IMAGES)))
        assert figure["seconds"] > 0
    clean = found["attacks"]["clean"]["correct"]
    assert found["attacks"]["pgd-20"]["gradients_per_example"] == pytest.approx(20 * clean / IMAGES)
    assert len(found["sanity"]) == 8
    assert found["warnings"] == [c["verdict"] for c in found["sanity"] if not c["passed"]]
    assert (whole / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    kept = safetensors.torch.load_file(whole / "adversarial.safetensors")
    assert kept["examples"].tolist() == [int(line["example"]) for line in lines]
    for name in ("pgd-20", "apgd-ce", "cw-5"):
        right = network(kept[name]).argmax(1) == kept["labels"]
        assert right.tolist() == [line[name] == "1" for line in lines]
        assert float((kept[name].double() - kept["clean"].double()).abs().max()) <= EPS


def test_a_limit_takes_the_same_examples_every_time(run_directory: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(EvaluateOptions(
            run_directory, ("clean",), limit=30, out=tmp_path / name, picture=False, threads=1,
        ))  # fmt: skip
    first, second = flags(tmp_path / "a"), flags(tmp_path / "b")
    assert first == second
    assert len(first) == 30
    assert [int(line["example"]) for line in first] != list(range(30))


def test_several_threat_models(run_directory: Path, tmp_path: Path) -> None:
    """Each and their union, on the command line, where two ranks find what one process finds."""
    command: list[str | Path]
    command = [run_directory, "--attacks", "clean", "pgd-5", "cw-5", "--limit", "24"]
    command += ["--block-size", "8", "--threads", "1", "--threat", "linf:0.1", "l2:1", "--sanity"]
    for name, ranks in (("one", 0), ("two", 2)):
        done = evaluate(*command, "--out", tmp_path / name, ranks=ranks)
        assert done.returncode == 0, done.stderr
    lines, found = flags(tmp_path / "one"), figures(tmp_path / "one")
    assert flags(tmp_path / "two") == lines
    names = ["clean", "pgd-5@linf:0.1", "pgd-5@l2:1", "pgd-5@union"]
    names += ["cw-5@linf:0.1", "cw-5@l2:1", "cw-5@union", "all@union"]
    assert list(found["attacks"]) == names
    assert found["attacks"]["all@union"]["settings"] == {"attacks": ["pgd-5@union", "cw-5@union"]}
    assert found["threats"] == [{"norm": "linf", "eps": 0.1}, {"norm": "l2", "eps": 1.0}]
    for line in lines:
        union = line["pgd-5@linf:0.1"] == line["pgd-5@l2:1"] == "1"
        assert (line["pgd-5@union"] == "1") == union
        both = line["pgd-5@union"] == line["cw-5@union"] == "1"
        assert (line["all@union"] == "1") == both
    assert all(len(text) <= 120 for text in done.stdout.splitlines())
    assert len(found["sanity"]) == 2 * 5 + 3
    run(EvaluateOptions(
        run_directory, ("clean", "pgd-5"), limit=24, block_size=8, threads=1, picture=False,
        threats=(ThreatModel("l2", 1.0),), out=tmp_path / "l2",
    ))  # fmt: skip
    assert [line["pgd-5"] for line in flags(tmp_path / "l2")] == [x["pgd-5@l2:1"] for x in lines]


OWN_ATTACK = """
from dataclasses import dataclass
from zipper_dist.attacks import Attack, make_ball

@dataclass(frozen=True)
class Darker(Attack):
    share: float = 1.0

    def iterates(self, network, x, y, draws):
        yield make_ball(self.norm, x, self.eps).project(x - self.share * self.eps)
"""


def test_an_attack_from_a_file(run_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_ATTACK)
    name = f"{tmp_path / 'own.py'}:Darker"
    command: list[str | Path]
    command = [run_directory, "--attacks", "clean", name, "--limit", "20", "--threads", "1"]
    run(EvaluateOptions(
        run_directory, ("clean", name), limit=20, threads=1, out=tmp_path / "out", picture=False
    ))  # fmt: skip
    figure = figures(tmp_path / "out")["attacks"][name]
    assert {k: figure["settings"][k] for k in ("attack", "eps", "share")} == {
        "attack": "darker", "eps": EPS, "share": 1.0,
    }  # fmt: skip
    # Another content of the file is another attack.
    (tmp_path / "own.py").write_text(OWN_ATTACK.replace("x - self.share", "x + self.share"))
    done = evaluate(*command, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "evaluation").glob("darker-*"))) == 2


def test_without_matplotlib_there_is_no_picture(run_directory: Path, tmp_path: Path) -> None:
    """It is an extra: what is missing is said in one line, and all else is as ever."""
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError(name='matplotlib')")
    command = ["--attacks", "clean", "pgd-2", "--limit", "20", "--threads", "1"]
    done = evaluate(run_directory, *command, "--out", tmp_path, python_path=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "picture" in line]
    assert said == ["no picture: it takes matplotlib (pip install 'zipper_dist[plots]')"]
    assert list(figures(tmp_path)["attacks"]) == ["clean", "pgd-2"]
    assert len(flags(tmp_path)) == 20
    assert not (tmp_path / "evaluation.png").exists()


def test_the_first_images(
    run_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("few", 5), ("more", 60), ("all", 1000)):
        run(EvaluateOptions(
            run_directory, ("clean",), first=count, out=tmp_path / name, picture=False, threads=1,
        ))  # fmt: skip
        shown = " ".join(capsys.readouterr().out.split())
        numbers = [int(line["example"]) for line in flags(tmp_path / name)]
        assert numbers == list(range(min(count, 360)))
        about = json.loads((tmp_path / name / "evaluation.json").read_text())["data"]
        assert about["chosen"] == ("all" if name == "all" else "the first")
        which = f"the first {count} test images" if name != "all" else "360 test images"
        assert which in shown
        assert ("the first" in shown) == (name != "all")
        lacking = f"--first {count}: these images show "
        assert (lacking in shown) == (name == "few")


def test_a_network_of_other_origin(
    run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: nn.Module
) -> None:
    """A factory and a state dict as training scripts save it; mean and std undo its scaling."""
    (tmp_path / "their_models.py").write_text(
        "from zipper_dist.models import build, ModelSpec\n"
        f"def small():\n    return build({SPEC!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "theirs.pt")
    options = EvaluateOptions(
        tmp_path / "theirs.pt", ("clean",), model="their_models:small", dataset="digits",
        data=ImageOptions(image_size=16), out=tmp_path / "out", threads=1, picture=False,
    )  # fmt: skip
    run(options)
    ours = EvaluateOptions(
        run_directory, ("clean",), out=tmp_path / "ours", threads=1, picture=False
    )
    run(ours)
    theirs = flags(tmp_path / "out", "evaluation-theirs-small")
    assert theirs == flags(tmp_path / "ours")
    model, _ = load_foreign("their_models:small", tmp_path / "theirs.pt", (0.5,), (2.0,))
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(model(x), network((x - 0.5) / 2))
