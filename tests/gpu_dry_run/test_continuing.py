"""A run on a GPU that goes on from its checkpoints: all that is restored is where it belongs."""

from __future__ import annotations

from pathlib import Path

from end_to_end.commands import typed

from gpu_dry_run.rehearsals import COPIES, SMALL, problems, rehearse

# An optimizer that keeps two tensors and a counter for each parameter, and one that keeps one.
OPTIONS = typed("""
    --model.arch small_cnn --steps 4 --eval.every 2 --learners.adversarial.optimizer adamw
    --learners.adversarial.weight-average 0.9
""")


def test_it_goes_on_from_its_checkpoints(stub: Path, tmp_path: Path) -> None:
    job = {"run": [*SMALL, *OPTIONS]}
    (first,) = rehearse(stub, job, tmp_path)
    directory = tmp_path / "run"
    (directory / "summary.json").unlink()  # as if it had been killed after iteration 2
    for newest in directory.glob("checkpoints/*-00000004.ckpt"):
        newest.unlink()
    (second,) = rehearse(stub, job, tmp_path)
    assert [t for t in second["run"] if "data" in second["run"][t]] == [3, 4]
    assert problems(first["run"], COPIES) == problems(second["run"], COPIES) == []
    assert first["run"][4]["training step"] == second["run"][4]["training step"]
