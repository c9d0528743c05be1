"""Networks that cannot be trained as the options ask, found before anything is allocated."""

from __future__ import annotations

import pytest
import torch

from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec, build
from zipper_dist.models.registry import NETWORKS
from zipper_dist.training.setup.limits import refuse_giant, refuse_single_values


@pytest.mark.parametrize("arch", NETWORKS)
def test_a_network_beyond_memory_is_refused(arch: str) -> None:
    cpu = torch.device("cpu")
    refuse_giant(ModelSpec(arch, 3, 32, 32, 10, 0.1), 8, cpu)
    with pytest.raises(
        UserError, match=rf"--model\.width 64: training a {arch} of [0-9,]+ weights"
    ):
        refuse_giant(ModelSpec(arch, 3, 32, 32, 10, 64.0), 10**6, cpu)


def test_on_a_gpu_its_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, gpu = ModelSpec("small_cnn", 3, 32, 32, 10, 1.0), torch.device("cuda", 0)
    for free in (2**40, 2**20):  # as on a machine that has such a GPU
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2**40))
        if free == 2**40:
            refuse_giant(spec, 8, gpu)
        else:
            with pytest.raises(UserError, match=r"GiB of GPU memory .* 0\.0 GiB are available"):
                refuse_giant(spec, 8, gpu)


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
