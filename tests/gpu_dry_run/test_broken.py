"""The rehearsals find mistakes, and say where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_dry_run.rehearsals import COPIES, SMALL, launches, over_budget, problems, rehearse

SOURCE = Path(__file__).with_name("broken_objectives.py")


def options(broken: str) -> list[str]:
    return [
        *SMALL, "--model.arch", "small_cnn", "--learners.natural.objective", f"{SOURCE}:{broken}"
    ]  # fmt: skip


def test_reads_transfers_and_launches_are_named(stub: Path, tmp_path: Path) -> None:
    jobs = {name: options(name) for name in ("Asking", "Travelling", "Longer")}
    jobs["whole"] = [*SMALL, "--model.arch", "small_cnn"]
    (runs,) = rehearse(stub, jobs, tmp_path)
    assert problems(runs["whole"], COPIES) == problems(runs["Longer"], COPIES) == []
    asking, travelling = (problems(runs[name], COPIES) for name in ("Asking", "Travelling"))
    assert "iteration 2, training step: 1 waits, not 0 (_local_scalar_dense 1)" in asking
    for counter in ("waiting copies to the host", "waiting copies to the GPU"):
        assert f"iteration 2, training step: 1 {counter}, not 0 (_to_copy 1)" in travelling
    budget = launches(runs["whole"][2])
    took = sum(budget["training step"].values())
    assert over_budget(budget, budget) == []
    assert over_budget(launches(runs["Longer"][2]), budget) == [
        f"training step: {took + 1} launches, the budget is {took} (neg +1)"
    ]


@pytest.mark.parametrize(
    ("broken", "said"), [("Elsewhere", "on the same device"), ("Apart", "mixes devices")]
)
def test_mixed_devices_end_the_run(broken: str, said: str, stub: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=said):
        rehearse(stub, {"run": options(broken)}, tmp_path)
