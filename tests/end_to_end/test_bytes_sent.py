"""Ranks that share learners send each other what the design implies; for four shards, see
test_placements.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from end_to_end.commands import succeeded, train, typed
from end_to_end.results import evaluations, summary
from end_to_end.sent import assert_sent_as_designed

pytestmark = pytest.mark.slow

FEW = typed("""
    --threads 1 --device cpu --precision fp32 --compile off --steps 6 --batch-size 16
    --mix.start 2 --mix.every 2 --eval.every 3 --eval.attack-steps 1 --eval.limit 16
    --model.arch resnet18 --model.width 0.0625 --data.limit 100 --data.validation 20
    --data.image-size 8 --run-dir run
""")


@pytest.mark.parametrize(
    ("ranks", "options"),
    [
        (2, "digits-multinorm --placement.mode shared --learners.l2.awp 0.01"),
        (3, "digits --placement.ranks natural=1,adversarial=2"),
    ],
)
def test_ranks_that_share_learners(tmp_path: Path, ranks: int, options: str) -> None:
    """Two shards, and in one case shares of three learners in the global one."""
    succeeded(train(*typed(options), *FEW, at=tmp_path, ranks=ranks))
    found = summary(tmp_path / "run")
    assert (found["redistributions"], len(evaluations(tmp_path / "run"))) == (2, 2)
    assert_sent_as_designed(tmp_path / "run")
