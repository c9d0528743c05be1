"""One rank against two: the best turn of each counts, and verdicts have to be equal."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import eval_ranks
import pytest
import torch
from eval_ranks import Turn, balance, ranks_compared, take_turn
from safetensors.torch import save_file

SECONDS = {1: [30.0, 20.0, 25.0], 2: [15.0, 14.0, 12.5]}


def save_block(path: Path, gradients: int) -> None:
    """What an attack leaves of a block for which it took these gradients and some more passes."""
    spent = {"seconds": 1.0, "forwards": 4 - gradients, "gradients": gradients}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"state": torch.zeros(1)}, path, metadata={"spent": json.dumps(spent)})


def made_up(monkeypatch: pytest.MonkeyPatch, other_verdict_in_turn: int | None = None) -> None:
    """Turns that take SECONDS, and 5 more to start; all find the same, but for one of two ranks."""
    taken: dict[int, int] = {1: 0, 2: 0}

    def turn(run: Path, root: str, images: int, out: Path, cores: list[int]) -> Turn:
        ranks = len(cores)
        number, taken[ranks] = taken[ranks], taken[ranks] + 1
        out.mkdir(exist_ok=True)
        wrong = (ranks, number) == (2, other_verdict_in_turn)
        (out / "evaluation.csv").write_text(f"example,label,aa\n0,3,{int(wrong)}\n")
        for block, gradients in enumerate((1, 2, 1)):
            save_block(out / "evaluation" / "aa-1" / f"{block:06}.safetensors", gradients)
        seconds = SECONDS[ranks][number]
        return Turn(ranks, seconds + 5, seconds, 16.0)

    monkeypatch.setattr(eval_ranks, "take_turn", turn)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 2, 7})


def test_the_best_turns_are_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made_up(monkeypatch)
    found = ranks_compared(tmp_path, "data", 64, 3, tmp_path / "out")
    assert found["efficiency"] == 20 / (2 * 12.5)
    assert found["efficiency_of_command"] == 25 / (2 * 17.5)
    assert found["balance"] == 16 / (2 * 10)  # blocks 0 and 2 against block 1
    assert found["efficiency_by_processor_time"] == 16 / 16 * found["balance"]
    assert [turn["ranks"] for turn in found["turns"]] == [1, 2] * 3
    assert found["equal_verdicts"]


@pytest.mark.parametrize("number", [0, 2])
def test_other_verdicts_end_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    made_up(monkeypatch, other_verdict_in_turn=number)
    with pytest.raises(SystemExit, match="different verdicts"):
        ranks_compared(tmp_path, "data", 64, 3, tmp_path / "out")


def test_it_takes_two_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made_up(monkeypatch)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4})
    with pytest.raises(SystemExit, match="two cores"):
        ranks_compared(tmp_path, "data", 64, 3, tmp_path / "out")


@pytest.mark.slow
def test_a_turn_is_an_evaluation_from_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command itself, with a fast attack; what is left of an earlier turn is not used."""
    train = "digits-at --steps 4 --batch-size 16 --data.limit 60 --eval.limit 10 --threads 1"
    words = [sys.executable, "-m", "zipper_dist.train", *train.split(), "--eval.attack-steps=1"]
    run, out = tmp_path / "run", tmp_path / "out"
    subprocess.run([*words, "--run-dir", run, "--device=cpu"], check=True, capture_output=True)
    monkeypatch.setattr(eval_ranks, "ATTACK", "--attacks pgd-5 --threads 1 --no-picture")
    (out / "evaluation").mkdir(parents=True)
    (out / "evaluation" / "earlier").touch()
    turn = take_turn(run, "data", 30, out, [min(os.sched_getaffinity(0))])
    assert turn.ranks == 1
    assert turn.attack_seconds < turn.command_seconds
    assert balance(out, 1) == 1.0
    assert not (out / "evaluation" / "earlier").exists()
    with (out / "evaluation.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 30
