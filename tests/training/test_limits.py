"""Networks that cannot be trained as the options ask, found before anything is allocated."""

from __future__ import annotations

import pytest

from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec, build
from zipper_dist.models.registry import NETWORKS
from zipper_dist.training.setup.limits import refuse_giant, refuse_single_values


@pytest.mark.parametrize("arch", NETWORKS)
def test_a_network_beyond_memory_is_refused(arch: str) -> None:
    refuse_giant(ModelSpec(arch, 3, 32, 32, 10, 0.1), copies=8)
    with pytest.raises(
        UserError, match=rf"--model\.width 64: training a {arch} of [0-9,]+ weights"
    ):
        refuse_giant(ModelSpec(arch, 3, 32, 32, 10, 64.0), copies=10**6)


@pytest.mark.parametrize(
    ("arch", "pixels", "trains"),
    [
        ("resnet18", 8, False),  # its last map has one pixel
        ("resnet18", 16, True),
        ("wrn32_10", 4, False),
        ("wrn32_10", 8, True),
        ("small_cnn", 16, True),  # it has no BatchNorm
    ],
)
def test_batch_norm_of_a_single_value_is_refused(arch: str, pixels: int, trains: bool) -> None:
    model = build(ModelSpec(arch, 1, pixels, pixels, 3, 0.05))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if trains:
        refuse_single_values(model, (1, pixels, pixels), "--batch-size 1")
    else:
        with pytest.raises(UserError, match=r"--batch-size 1: .*BatchNorm.*--data\.image-size"):
            refuse_single_values(model, (1, pixels, pixels), "--batch-size 1")
    after = model.state_dict()
    assert all(bool((before[name] == after[name]).all()) for name in before)
