"""How many launches each part of an iteration of the CIFAR-10 recipe takes, and no more.

An iteration of ResNet-18 and PGD-10 is some milliseconds of work on a large GPU, so that launches
decide how long it takes. ``budget.json`` has them by part and operation: kernels, and copies and
fills within the GPU; those of ``attack step`` are all ten, those of ``training step`` and
``reading`` of both learners. A convolution or product of matrices counts as one kernel.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from end_to_end.commands import typed

from gpu_dry_run.rehearsals import COPIES, launches, over_budget, problems, rehearse

BUDGET = json.loads(Path(__file__).with_name("budget.json").read_text())
# Other images, of the same size after they were resized and in minibatches of the same size.
RECIPE = typed("""
    cifar10 --device cuda --steps 2 --data.source digits --data.image-size 32 --data.limit 300
    --data.validation 16 --eval.limit 2 --eval.attack-steps 1 --eval.every 100
    --mix.every 100 --mix.start 100 --log-every 100
""")


@pytest.mark.slow
def test_no_part_of_an_iteration_takes_more_launches(stub: Path, tmp_path: Path) -> None:
    version = ".".join(torch.__version__.split(".")[:2])
    if version != BUDGET["torch"]:
        pytest.skip(f"torch {version}: the launches were counted with {BUDGET['torch']}")
    (runs,) = rehearse(stub, {"cifar10": RECIPE}, tmp_path)
    assert problems(runs["cifar10"], COPIES) == []
    found = launches(runs["cifar10"][2])
    parts = over_budget(found, BUDGET["launches"])
    assert not parts, (
        "an iteration of the CIFAR-10 recipe takes other launches than in budget.json\n"
        + "\n".join(parts)
        + "\nif that is meant, the launches are now\n"
        + json.dumps(found, sort_keys=True)
    )
