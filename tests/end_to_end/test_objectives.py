"""The objectives of the literature as Zipper's adversarial learner: serial and on two ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from end_to_end.commands import SMALL, started, succeeded, train, typed
from end_to_end.results import assert_same_result, weights

pytestmark = pytest.mark.slow

# Redistributions after 8 and 12, evaluations after 10 and 16.
SHORT = SMALL + typed("--steps 16 --mix.start 8 --mix.every 4 --eval.every 10 --eval.limit 20")
OPTIONS = {
    "score": "--learners.adversarial.clip 0.1",
}


@pytest.mark.parametrize("objective", OPTIONS)
def test_two_ranks_end_with_the_bits_of_one_process(objective: str, tmp_path: Path) -> None:
    serial, parallel = (tmp_path / name for name in ("serial", "parallel"))
    for directory in (serial, parallel):
        directory.mkdir()
    options = typed(f"--learners.adversarial.objective {objective} {OPTIONS[objective]}")
    with started(*SHORT, *options, at=serial) as command:
        succeeded(train(*SHORT, *options, at=parallel, ranks=2))
        succeeded(command.wait())
    assert_same_result(serial / "run", parallel / "run")
    found = weights(serial / "run")
    assert len({found["natural"], found["adversarial"], found["global"]}) == 3
