"""Zipper from Python."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import zipper_dist

SHORT: dict[str, Any] = {
    "steps": 6,
    "batch-size": 16,
    "mix.start": 2,
    "mix.every": 2,
    "data.limit": 100,
    "eval.limit": 20,
    "eval.every": 3,
    "eval.attack_steps": 2,
    "model.width": 0.125,
    "learners.adversarial.attack.steps": 2,
    "device": "cpu",
    "threads": 1,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def run() -> zipper_dist.Run:
    return zipper_dist.fit("digits", SHORT)


def weights(run: zipper_dist.Run, learner: str = "global") -> dict[str, Tensor]:
    return run.model(learner).state_dict()


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, zipper_dist; print(zipper_dist.__version__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [zipper_dist.__version__, "False"]


def test_everything_offered_is_there() -> None:
    for name in zipper_dist.__all__:
        assert getattr(zipper_dist, name) is not None
    assert set(zipper_dist.__all__) <= set(dir(zipper_dist))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        zipper_dist.nothing  # noqa: B018
    assert {"digits", "cifar10", "mnist"} <= set(zipper_dist.RECIPES)
    assert {"natural", "at", "trades", "fat", "mart"} <= set(zipper_dist.OBJECTIVES)
    assert {"resnet18", "small_cnn"} <= set(zipper_dist.NETWORKS)
    assert {"pgd", "fgsm"} <= set(zipper_dist.ATTACKS)


def test_a_run_has_a_summary_and_networks(run: zipper_dist.Run) -> None:
    assert run.summary["steps"] == 6
    assert set(run.summary["final"]["learners"]) == {"natural", "adversarial", "global"}
    model = run.model()
    assert not model.training
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert_equal(weights(run), zipper_dist.load_model(str(run.directory)).state_dict())
    file = run.directory / "natural.safetensors"
    assert_equal(weights(run, "natural"), zipper_dist.load_model(file).state_dict())


def test_it_may_be_called_twice_and_prints_nothing(
    run: zipper_dist.Run, capfd: pytest.CaptureFixture[str]
) -> None:
    again = zipper_dist.fit("digits", SHORT)
    assert again.directory != run.directory
    assert_equal(weights(again), weights(run))
    assert capfd.readouterr() == ("", "")


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    first = zipper_dist.fit("digits", SHORT, run_dir=tmp_path / "run")
    before = (first.directory / "global.safetensors").stat().st_mtime_ns
    zipper_dist.fit("digits", SHORT, run_dir=str(tmp_path / "run"))
    assert (first.directory / "global.safetensors").stat().st_mtime_ns == before
    with pytest.raises(zipper_dist.UserError, match="--seed"):
        zipper_dist.fit("digits", {**SHORT, "seed": 1}, run_dir=tmp_path / "run")


def test_two_ranks_end_with_the_same_bits(run: zipper_dist.Run, tmp_path: Path) -> None:
    two = zipper_dist.fit("digits", SHORT, ranks=2, run_dir=tmp_path / "run")
    assert len(two.summary["ranks"]) == 2
    for learner in ("natural", "adversarial", "global"):
        assert_equal(weights(two, learner), weights(run, learner))


def test_options_of_a_recipe_can_be_changed_as_objects(run: zipper_dist.Run) -> None:
    options = zipper_dist.recipe("digits")
    assert options.learners["adversarial"].threat() == zipper_dist.ThreatModel("linf", 0.17)
    assert_equal(weights(zipper_dist.fit(options, SHORT)), weights(run))


def test_options_may_have_other_learners_than_their_recipe() -> None:
    options = zipper_dist.recipe("digits")
    alone = replace(options, learners={"robust": options.learners["adversarial"]})
    few = {name: value for name, value in SHORT.items() if not name.startswith("learners.")}
    run = zipper_dist.fit(alone, {**few, "learners.robust.attack.steps": 1})
    assert set(run.summary["final"]["learners"]) == {"robust", "global"}
    with pytest.raises(zipper_dist.UserError, match="those of recipe digits"):
        zipper_dist.fit(alone, few, ranks=2)
    named = replace(options, learners={"global": options.learners["adversarial"]})
    with pytest.raises(zipper_dist.UserError, match=r"learners\.global"):
        zipper_dist.fit(named, few)


def test_a_job_that_the_caller_is_part_of_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert zipper_dist.fit("digits", SHORT).summary["steps"] == 6
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("recipe", "options", "said"),
    [
        ("nonsense", {}, "nonsense"),
        ("digits", {"no-such-option": 1}, "no-such-option"),
        ("digits", {"steps": "many"}, "steps"),
        ("digits", {"mix.ema": 2}, "--mix.ema 2"),
    ],
)
def test_mistakes_are_errors_that_name_the_option(
    recipe: str, options: dict[str, Any], said: str, ranks: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(zipper_dist.UserError, match=said):
        zipper_dist.fit(recipe, options, ranks=ranks)
    assert capfd.readouterr() == ("", "")


def test_the_process_is_left_as_it_was() -> None:
    def state() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            os.sched_getaffinity(0),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_rng_state().tolist(),
            random.getstate(),
            signal.getsignal(signal.SIGINT),
            signal.getsignal(signal.SIGTERM),
            dist.is_initialized(),
            torch.is_grad_enabled(),
        )

    torch.manual_seed(5)
    before = state()
    zipper_dist.fit("digits", SHORT)
    assert state() == before
    with pytest.raises(zipper_dist.UserError):
        zipper_dist.fit("digits", {**SHORT, "mix.ema": 2})
    assert state() == before


def test_it_works_beside_the_main_thread() -> None:
    found: list[zipper_dist.Run] = []
    thread = threading.Thread(target=lambda: found.append(zipper_dist.fit("digits", SHORT)))
    thread.start()
    thread.join()
    assert found[0].summary["steps"] == 6


class Plain(nn.Module):
    """A network that the package knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


def test_any_network_is_evaluated_and_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    model = Plain().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model.eval()(images).argmax(1)
    model.train()
    threat = zipper_dist.ThreatModel("linf", 0.05)
    report = zipper_dist.benchmark(model, (images, labels), threat, ("clean", "pgd-5"))
    assert report.accuracy["clean"] == 100
    assert report.accuracy["pgd-5"] == pytest.approx(
        100 * float(report.correct["pgd-5"].float().mean())
    )
    assert report.accuracy["pgd-5"] < 100
    assert "pgd-5" in report.table()
    assert model.training
    assert_equal(model.state_dict(), before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert capfd.readouterr() == ("", "")


def test_data_by_name_and_several_threat_models(run: zipper_dist.Run) -> None:
    threats = [zipper_dist.ThreatModel("linf", 0.1), zipper_dist.ThreatModel("l2", 0.5)]
    report = zipper_dist.benchmark(run.model(), "digits", threats, ["clean", "pgd-3"], limit=40)
    union = report.correct["pgd-3@union"]
    assert len(union) == 40
    single = [report.correct[f"pgd-3@{threat}"] for threat in threats]
    assert torch.equal(union, single[0] & single[1])


def test_attacks_are_functions_with_defaults(run: zipper_dist.Run) -> None:
    model = run.model()
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    attacks = zipper_dist.attacks
    for attack in (attacks.PGD(eps=0.1), attacks.Fgsm(eps=0.1), attacks.Mim(eps=0.1),
                   attacks.Cw(eps=0.1), attacks.AutoAttack(eps=0.1)):  # fmt: skip
        found = attack(model, x, y)
        assert found.shape == x.shape
        assert float((found.double() - x.double()).abs().max()) <= 0.1
        assert found.min() >= 0
        assert found.max() <= 1
        assert torch.equal(found, attack(model, x, y))


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_package_lists_its_commands(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "zipper_dist", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("train", "evaluate", "predict", "launcher"))


def test_versions_and_unknown_commands() -> None:
    command = [sys.executable, "-m", "zipper_dist"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"zipper_dist {zipper_dist.__version__}\n"
    for module in ("train", "evaluate", "predict", "launcher"):
        done = subprocess.run(
            [*command, module, "--version"], capture_output=True, text=True, check=True
        )
        assert zipper_dist.__version__ in done.stdout
    wrong = subprocess.run([*command, "nothing"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "unknown command 'nothing'" in wrong.stderr
