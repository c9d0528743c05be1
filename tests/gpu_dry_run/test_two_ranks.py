"""Two ranks, on one GPU over gloo, and on two with torch's backend ``fake`` in place of NCCL."""

from __future__ import annotations

from pathlib import Path

import pytest
from end_to_end.commands import typed

from gpu_dry_run.rehearsals import COPIES, SMALL, Allowed, problems, rehearse

# gloo sums in RAM: what is summed goes there and back, for each of two learners.
OVER_GLOO: Allowed = {
    ("all-reduce", "waiting copies to the host"): 2,
    ("all-reduce", "waiting copies to the GPU"): 2,
    ("all-reduce", "waits"): 4,
}
# The learners are redistributed after the first iteration.
OFTEN = typed("--model.arch small_cnn --mix.start 1 --mix.every 1")


@pytest.mark.parametrize(("gpus", "summing"), [(1, OVER_GLOO), (2, {})])
def test_neither_rank_waits_within_an_iteration(
    gpus: int, summing: Allowed, stub: Path, tmp_path: Path
) -> None:
    jobs = {mode: [*SMALL, *OFTEN, "--placement.mode", mode] for mode in ("dedicated", "shared")}
    ranks = rehearse(stub, jobs, tmp_path, ranks=2, gpus=gpus)
    one_each = COPIES | {("reading", "copies to the host"): 1}
    for runs in ranks:
        assert problems(runs["dedicated"], one_each) == []
        assert problems(runs["shared"], COPIES | summing) == []
        assert all("redistribution" in run[1] for run in runs.values())
    # Who reads and who sums: the learners of a rank of its own, and both learners of a shared one.
    assert [("attack" in runs["dedicated"][2]) for runs in ranks] == [False, True]
    assert all("attack" in runs["shared"][2] for runs in ranks)
