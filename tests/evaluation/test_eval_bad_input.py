"""Bad options and files end the command in one line, and nothing in a file is executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.commands import evaluate
from zipper_dist.checkpoint.state_dicts import read_state_dict
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.run import run
from zipper_dist.models import build

pytestmark = pytest.mark.slow


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_loading_executes_nothing_from_the_file(tmp_path: Path) -> None:
    torch.save({"weight": Evil(tmp_path / "executed")}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(tmp_path / "executed")))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(UserError, match="refused"):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def damaged(run_directory: Path, tmp_path: Path) -> Path:
    content = bytearray((run_directory / "global.safetensors").read_bytes())
    content[-5] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(content)
    return tmp_path / "damaged.safetensors"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"attacks": ("pgd20",)}, "--attacks pgd20: unknown attack"),
        ({"attacks": ("pgd-0",)}, "--attacks pgd-0: unknown attack"),
        ({"attacks": ()}, "--attacks: give one"),
        ({"eps": 0.0}, "--eps 0.0: give a radius above 0"),
        ({"eps": 8.0}, "--eps 8.0: give a radius above 0 and up to 1"),
        ({"eps": float("nan")}, "--eps nan"),
        ({"step_size": -1.0}, "--step-size -1.0"),
        ({"norm": "l2"}, "give --eps too"),
        (
            {"threats": (ThreatModel("linf", 2.0),)},
            "--threats linf:2.0: give a radius above 0 and up to 1",
        ),
        ({"threats": (ThreatModel(),), "eps": 0.1}, "--threats and --norm, --eps: give one"),
        ({"attacks": ("nowhere:Attack",)}, "--attacks nowhere:Attack: cannot be loaded"),
        ({"attacks": ("pathlib:Path",)}, "--attacks pathlib:Path: not a class of attacks"),
        ({"limit": 0}, "--limit 0: give 1 or more"),
        ({"first": 0}, "--first 0: give 1 or more"),
        ({"first": 5, "limit": 5}, "--limit and --first: give one of them"),
        ({"dataset": "imagenet"}, "--data imagenet: unknown data set; choose from cifar10"),
        ({"learner": "best"}, "no best.safetensors here; --learner can be global"),
        ({"mean": (0.5,)}, "--mean and --std"),
        ({"save_adversarial": Path("/nowhere/a.safetensors")}, "there is no such directory"),
        ({"model": "nowhere:f"}, "--model nowhere:f: cannot be loaded: ModuleNotFoundError"),
        ({"model": "nowhere"}, "give package.module:NAME or path/to/file.py:NAME"),
        ({"device": "cuda"}, "no GPU was found"),
    ],
    ids=str,
)
def test_bad_options_are_one_line(
    run_directory: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    if change.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    options: dict[str, Any] = {"attacks": ("clean",), "out": tmp_path, "threads": 1} | change
    with pytest.raises(UserError) as raised:
        run(EvaluateOptions(run_directory, **options))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bad_files_are_one_line(run_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "weights.pt").write_bytes(b"")
    other = tmp_path / "other.safetensors"
    from zipper_dist.checkpoint.weights import save_weights
    from zipper_dist.models import ModelSpec

    spec = ModelSpec("small_cnn", 1, 16, 16, 7, 0.25)
    save_weights(other, build(spec).state_dict(), spec)
    (tmp_path / "empty").mkdir()
    cases = {
        damaged(run_directory, tmp_path): "damaged: the checksum",
        tmp_path / "text.safetensors": "not a safetensors file",
        tmp_path / "absent.safetensors": "no such file",
        tmp_path / "weights.pt": "say which network it is for with --model",
        tmp_path / "empty": "no weights here",
        other: "made for images of 1×16×16 (C×H×W) in 7 classes, but digits has",
    }
    for target, says in cases.items():
        with pytest.raises(UserError) as raised:
            run(EvaluateOptions(target, ("clean",), dataset="digits", out=tmp_path, threads=1))
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)


def test_an_error_is_one_line_and_a_status(tmp_path: Path) -> None:
    done = evaluate(tmp_path / "absent.safetensors")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"zipper: error: {tmp_path / 'absent.safetensors'}: no such file"
    ]
