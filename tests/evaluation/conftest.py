"""A small network trained adversarially on the digits, in a run directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.attacks import PGD, SharedDraws
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.checkpoint.weights import load_model, save_weights
from zipper_dist.config.schema import AttackedLearnerConfig, DataConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.data import Loader, load
from zipper_dist.models import ModelSpec, build
from zipper_dist.recipes.registry import recipe

FP32 = {"precision": "fp32", "compiled": False, "shards": 1}  # what config.json resolves

EPS = 0.1
THREAT = ThreatModel("linf", EPS)
Set = tuple[Tensor, Tensor]
SPEC = ModelSpec("small_cnn", 1, 16, 16, 10, 0.25)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of the digits recipe with global.safetensors."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs") / "digits"
    config = recipe("digits")
    adversarial = config.learners["adversarial"]
    assert isinstance(adversarial, AttackedLearnerConfig)
    trained_for = replace(adversarial, attack=replace(adversarial.attack, eps=EPS))
    config = replace(
        config,
        run_dir=root,
        data=DataConfig(source="digits", image_size=16),
        model=replace(config.model, arch="small_cnn", width=0.25),
        learners={**config.learners, "adversarial": trained_for},
    )
    directory = RunDirectory(root)
    directory.prepare()
    directory.write_config(config, FP32, ["cpu"])
    save_weights(directory.weights("global"), _train().state_dict(), SPEC)
    return root


def _train() -> nn.Module:
    torch.manual_seed(0)
    data = load(DataConfig(source="digits", image_size=16), 0)
    loader = Loader(data.train, 64, seed=0)
    model = build(SPEC)
    steps = 400
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for t in range(1, steps + 1):
        batch = loader.minibatch(t)
        eps = EPS * min(1.0, 0.1 + 1.5 * t / steps)
        model.eval()
        attack = PGD(eps, step_size=eps / 2, steps=4)
        attacked = attack.run(model, batch.images, batch.labels, SharedDraws(None))
        model.train()
        optimizer.param_groups[0]["lr"] = 0.05 if t < 0.7 * steps else 0.005
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(attacked), batch.labels))
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def network(run_directory: Path) -> nn.Module:
    return load_model(run_directory / "global.safetensors").requires_grad_(False)


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """Images (360, 1, 16, 16) in [0, 1] and labels of the test set, in the plain memory layout."""
    test = load(DataConfig(source="digits", image_size=16), 0).test
    return (test.images.float() / 255).contiguous(), test.labels


@pytest.fixture(scope="session")
def right(network: nn.Module, digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Those of the digits that the network classifies right."""
    x, y = digits
    keep = network(x).argmax(1) == y
    return x[keep], y[keep]


@pytest.fixture(scope="module")
def some(digits: Set) -> Set:
    return digits[0][:75].clone(), digits[1][:75].clone()
