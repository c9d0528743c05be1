"""When networks are compiled, and where the code is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from zipper_dist.accel.compilation import (
    compile_mode,
    forward_flop,
    keep_compiled_code,
    resolve_compile,
    work,
)
from zipper_dist.models import ModelSpec, build
from zipper_dist.recipes.registry import recipe

CPU = torch.device("cpu")


def test_compile_says_what_it_chose_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipper_dist.accel.compilation.BREAK_EVEN", {("cpu", "resnet18"): 100e12})
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/" + name)
    assert resolve_compile("on", CPU, "small_cnn", 1) == (True, "compile on")
    assert resolve_compile("off", CPU, "resnet18", 1e18) == (False, "compile off")
    for tera, pays in ((99, False), (100, True)):
        compiled, why = resolve_compile("auto", CPU, "resnet18", tera * 1e12)
        assert compiled is pays
        assert "some 100 TFLOP" in why
        assert f"has {tera})" in why
    compiled, why = resolve_compile("auto", CPU, "small_cnn", 1e18)
    assert not compiled
    assert "small_cnn on cpu" in why
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert resolve_compile("auto", CPU, "resnet18", 1e18)[0] is False


def test_gpus_run_captured_graphs() -> None:
    assert compile_mode(torch.device("cuda")) == "reduce-overhead"
    assert compile_mode(CPU) is None


def test_flop_are_counted() -> None:
    # By hand, multiplications and additions apart: ResNet-18 on 32×32 has 0.56 G of each.
    resnet = build(ModelSpec("resnet18", 3, 32, 32, 10))
    assert forward_flop(resnet, (3, 32, 32)) == pytest.approx(1.11e9, rel=0.01)
    assert all(parameter.device == CPU for parameter in resnet.parameters())
    # Four convolutions on maps of 26, 24, 10 and 8 pixels, and three fully connected layers.
    convolutions = 26**2 * 9 * 32 + 24**2 * 9 * 32 * 32 + 10**2 * 9 * 32 * 64 + 8**2 * 9 * 64 * 64
    linear = 1024 * 200 + 200 * 200 + 200 * 10
    small_cnn = build(ModelSpec("small_cnn", 1, 28, 28, 10))
    assert forward_flop(small_cnn, (1, 28, 28)) == 2 * (convolutions + linear)


def test_work_of_the_published_run() -> None:
    config = recipe("cifar10")
    model, image = build(ModelSpec("resnet18", 3, 32, 32, 10)), (3, 32, 32)
    # Two training steps of three passes each, and ten gradient steps of two: 3.7 TFLOP.
    assert work(config, model, image, 128) == pytest.approx(3.7e12, rel=0.01)
    assert work(config, model, image, 1000) == 1000 * work(config, model, image, 1)


def test_compiled_code_is_kept_in_the_cache_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    keep_compiled_code()
    kept = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert kept.is_dir()
    assert kept.parent.parent == tmp_path
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    keep_compiled_code()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"


def test_without_a_cache_directory_there_is_still_compilation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    keep_compiled_code()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
