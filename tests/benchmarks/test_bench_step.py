"""`make bench-step` says what it promises, of the engine that trains."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import bench_step
import pytest
import torch
from bench_step import break_even_flop, figures, variants
from step_iterations import NETWORKS, PARTS, EngineIteration, ReferenceIteration, Variant

from zipper_dist.config.schema import AttackConfig

CPU = torch.device("cpu")
# Small enough for a test, and large enough for what is between the parts not to count.
TINY = replace(
    NETWORKS["small_cnn"],
    spec=replace(NETWORKS["small_cnn"].spec, width_multiplier=0.5),
    batch_size=16,
    attack=AttackConfig(eps=0.3, step_size=0.1, steps=2),
)


@pytest.mark.slow
def test_the_command_writes_figures_by_network_and_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = {"reference": Variant(None), "auto": Variant("fp32")}
    monkeypatch.setattr(bench_step, "variants", lambda device, compiled: two)
    out = tmp_path / "out" / "step.json"
    words = "--networks small_cnn --no-compile --rounds 1 --threads 1 --quick --out"
    monkeypatch.setattr(sys, "argv", ["bench_step.py", *words.split(), str(out)])
    bench_step.main()
    report = json.loads(out.read_text())
    assert set(report) == {"small_cnn"}
    assert set(report["small_cnn"]) == {"reference", "auto"}
    for found in report["small_cnn"].values():
        assert found["seconds"] > 0
        assert found["processor_seconds"] > 0
        assert set(found["parts"]) == set(PARTS)
        assert found["peak_memory_bytes"] > 10**7
    printed = " ".join(capsys.readouterr().out.split())
    for what in (*PARTS, "× reference", "GFLOP/s", "peak GB", "CPU s"):
        assert what in printed


def test_what_is_compared() -> None:
    assert list(variants(CPU, compiled=False)) == ["reference", "fp32", "auto"]
    assert list(variants(CPU, compiled=True))[3:] == ["fp32-compiled", "auto-compiled"]


@pytest.mark.parametrize("engine", [False, True])
def test_the_parts_are_the_whole_iteration(engine: bool) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    iteration = (
        EngineIteration(TINY, Variant("fp32", False), CPU)
        if engine
        else ReferenceIteration(TINY, CPU)
    )
    shares = []
    for _ in range(5):
        found = iteration()
        assert set(found) == {"seconds", "processor_seconds", *PARTS}
        assert all(found[part] > 0 for part in PARTS)
        shares.append(sum(found[part] for part in PARTS) / found["seconds"])
    assert max(shares) <= 1
    # What other programs take between two parts is nobody's.
    assert max(shares) > 0.95
    torch.set_num_threads(threads)


def test_figures_are_medians_and_ratios_of_one_run() -> None:
    def iterations(*seconds: float) -> list[dict[str, float]]:
        return [
            {"seconds": s, "processor_seconds": 2 * s} | dict.fromkeys(PARTS, s / 5)
            for s in seconds
        ]

    times = {"reference": iterations(8, 9, 40), "auto": iterations(1, 3, 3)}
    found = figures(times, flop=60)
    assert found["reference"]["seconds"] == 9
    assert found["reference"]["processor_seconds"] == 18
    assert found["auto"]["ratio_to_reference"] == 3
    assert found["auto"]["parts"] == dict.fromkeys(PARTS, 0.6)
    assert found["auto"]["flop_per_second"] == 20


def test_compiling_has_paid_once_it_saved_what_it_cost() -> None:
    plain = {"seconds": 3.0, "first_seconds": 4.0}
    assert break_even_flop(plain, {"seconds": 2.5, "first_seconds": 24.0}, flop=7) == 40 * 7
    assert break_even_flop(plain, {"seconds": 3.0, "first_seconds": 24.0}, flop=7) is None


def test_the_work_of_an_iteration() -> None:
    """A 3 × 3 convolution has 2 · 9 FLOP an input and output channel and pixel; two steps of the
    attack and two learners are ten passes."""
    few = replace(TINY, batch_size=1)
    assert TINY.flop() == 16 * few.flop()
    more = replace(few, attack=replace(few.attack, steps=7))
    assert more.flop() == 2 * few.flop()
    assert few.flop() > 10 * 2 * 9 * 26**2 * 16
