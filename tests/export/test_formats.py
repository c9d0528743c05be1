"""torch.export, ONNX and the Hugging Face Hub: what is written gives the network's logits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import zipper_dist
from export.conftest import IMAGES, without_zipper_dist
from zipper_dist.errors import Failure, UserError
from zipper_dist.export.base import EXPORTERS, Subject
from zipper_dist.models import ModelSpec, build

pytestmark = pytest.mark.slow

RUN_GRAPH = """
network = torch.export.load("model.pt2").module()
torch.save([network(images[:count]) for count in (1, 9)], "logits.pt")
"""


def test_the_graph_takes_any_number_of_images_without_zipper_dist(
    run: Path, tmp_path: Path
) -> None:
    out = zipper_dist.export_model(run, "torch-export", tmp_path / "out")
    images = torch.rand(9, 1, 8, 8)
    torch.save(images, tmp_path / "images.pt")
    without_zipper_dist(RUN_GRAPH, out, tmp_path / "images.pt")
    network = zipper_dist.load_model(run)
    for logits, count in zip(torch.load(out / "logits.pt"), (1, 9), strict=True):
        torch.testing.assert_close(logits, network(images[:count]), rtol=0, atol=1e-5)


def test_onnx_takes_any_number_of_images(run: Path, tmp_path: Path) -> None:
    import onnxruntime

    out = zipper_dist.export_model(run, "onnx", tmp_path, learner="best")
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    network = zipper_dist.load_model(run / "best.safetensors")
    for count in (1, 9):
        images = torch.rand(count, 1, 8, 8)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        expected = network(images)
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-4)
    (given,) = session.get_inputs()
    assert given.name == "images"
    assert given.shape[1:] == [1, 8, 8]


@pytest.mark.parametrize(
    ("to", "module", "extra"),
    [("onnx", "onnx", "onnx"), ("onnx", "onnxruntime", "onnx"), ("hub", "jinja2", "hub")],
)
def test_a_missing_package_names_the_extra(
    to: str, module: str, extra: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    said = rf"--to {to}: takes the package {module} \(pip install 'zipper_dist\[{extra}\]'\)"
    with pytest.raises(UserError, match=said):
        zipper_dist.export_model(run, to, tmp_path)


def card_of(directory: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text of a model card."""
    _, front, text = (directory / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_card_says_what_was_measured_and_how(
    run: Path, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    out = zipper_dist.export_model(run, "hub", tmp_path)
    front, text = card_of(out)
    assert front["datasets"] == ["digits"]
    (index,) = front["model-index"]
    (result,) = index["results"]
    listed = {metric["name"]: metric["value"] for metric in result["metrics"]}
    attacks = evaluation["attacks"]
    assert listed == {f"accuracy ({n})": round(a["accuracy"], 2) for n, a in attacks.items()}
    low, high = attacks["clean"]["interval"]
    row = f"| clean | {attacks['clean']['accuracy']:.2f} % | {low:.2f} … {high:.2f} % | {IMAGES} |"
    assert row in text
    assert f"the first {IMAGES} of 360 test images of digits" in text
    assert "linf, ε = 0.17" in text
    assert "recipe: `digits`" in text
    assert "those of the end of the training" in text
    assert "not measured by AutoAttack on the whole test set" in text
    assert json.loads((out / "training.json").read_text())["model"]["width"] == 0.125


def test_the_files_of_the_hub_load_with_and_without_zipper_dist(run: Path, tmp_path: Path) -> None:
    out = zipper_dist.export_model(run, "hub", tmp_path / "out")
    network, images = zipper_dist.load_model(run), torch.rand(4, 1, 8, 8)
    torch.save(images, tmp_path / "images.pt")
    script = 'from model import load_model\ntorch.save(load_model()(images), "logits.pt")\n'
    without_zipper_dist(script, out, tmp_path / "images.pt")
    assert torch.equal(torch.load(out / "logits.pt"), network(images))
    assert torch.equal(zipper_dist.load_model(out / "model.safetensors")(images), network(images))
    description = json.loads((out / "config.json").read_text())
    assert description["threat_models"] == [{"norm": "linf", "eps": 0.17}]
    assert (description["arch"], description["classes"]) == ("resnet18", 10)


def test_the_card_has_the_sanity_checks_and_warnings(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "evaluation.json"
    found = json.loads(file.read_text())
    verdict = "The gradient of the loss is exactly zero for 40.0 % of the images."
    found["sanity"] = [
        {"name": "gradients", "passed": False, "verdict": verdict},
        {"name": "inputs", "passed": True, "verdict": "All images lie in [0, 1]."},
    ]
    found["warnings"] = [verdict]
    file.write_text(json.dumps(found))
    _, text = card_of(zipper_dist.export_model(tmp_path / "run", "hub"))
    assert "Of the sanity checks against masked gradients 1 of 2 passed." in text
    assert f"**Warning:** {verdict}\n" in text


@pytest.mark.parametrize(
    ("validation", "said"),
    [("0.1", "the test set had no part in the choice"), ("test", "**on the test set**")],
)
def test_the_card_of_the_best_says_what_it_was_chosen_on(
    validation: str, said: str, run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    config["options"]["data"]["validation"] = validation
    file.write_text(json.dumps(config))
    out = zipper_dist.export_model(tmp_path / "run", "hub", learner="best")
    _, text = card_of(out)
    assert out == tmp_path / "run" / "export" / "best-hub"
    assert said in text
    assert "It was not measured." in text


def test_the_card_tells_of_generated_images(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    config["options"]["data"] |= {"extra": "1m.npz", "extra_fraction": 0.7}
    file.write_text(json.dumps(config))
    line = "- generated images: 1m.npz, 0.7 of every minibatch"
    for path, told in ((run, False), (tmp_path / "run", True)):
        _, text = card_of(zipper_dist.export_model(path, "hub", tmp_path / str(told)))
        assert (line in text) is told
        assert "- data: digits\n-" in text


def test_without_an_evaluation_the_card_has_the_accuracies_of_the_run(
    run: Path, tmp_path: Path
) -> None:
    _, text = card_of(zipper_dist.export_model(run, "hub", tmp_path, learner="natural"))
    final = json.loads((run / "summary.json").read_text())["final"]
    scores = final["learners"]["natural"]
    assert f"| clean | {scores['clean']:.2f} % |" in text
    assert f"| pgd-2 | {scores['robust']:.2f} % |" in text
    assert "by PGD with 2 steps on test images" in text


def test_of_a_lone_file_the_card_says_what_is_not_known(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "global.safetensors", tmp_path / "some.safetensors")
    out = zipper_dist.export_model(tmp_path / "some.safetensors", "hub")
    _, text = card_of(out)
    assert "# some\n" in text
    assert "how it was trained is not known" in text
    assert "It was not measured." in text


def test_what_gives_other_logits_is_refused() -> None:
    spec = ModelSpec("resnet18", 1, 8, 8, 10, 0.125)
    subject = Subject(build(spec).eval(), spec, Path("some.safetensors"), "some")
    network = subject.model
    assert subject.compare("it", network, 0.0) == 0
    for wrong in (
        lambda images: network(images) + 1e-3,
        lambda images: network(images) * float("nan"),
        lambda images: network(images)[:2],  # a batch size that was fixed
    ):
        with pytest.raises(Failure, match=r"it gives logits .* of no use"):
            subject.compare("it", wrong, 1e-4)


def test_nothing_is_loaded_that_is_not_used() -> None:
    code = """
import sys
sys.argv = ["zipper_dist.export", "--help"]
from zipper_dist.export.__main__ import main
try:
    main()
finally:
    heavy = ("onnx", "onnxruntime", "onnxscript", "jinja2", "robustbench", "huggingface_hub")
    print("loaded:", [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded: []", done
    assert "--about.license" in done.stdout
    assert {"robustbench", "torch-export", "onnx", "hub"} <= set(EXPORTERS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "tensorflow"], "--to tensorflow: unknown format; choose from hub, onnx"),
        (["--to", "hub", "--learner", "none"], "no none.safetensors here; --learner can be"),
        (["--to", "hub", "--name", "a/b"], "--name a/b: give a name without slashes"),
        (["--to", "hub", "--out", "config.json"], "--out config.json: cannot be written"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, run: Path) -> None:
    command = [sys.executable, "-m", "zipper_dist.export", str(run), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=run)
    assert done.returncode == 2
    assert done.stderr.startswith("zipper: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_the_commands_of_the_manual_run(run: Path, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "exporting.md"
    lines = [line for line in page.read_text().splitlines() if line.startswith("$ ")]
    commands = [line.removeprefix("$ python ").split() for line in lines if "RUN_OR" not in line]
    assert len(commands) == 4
    shutil.copytree(run, tmp_path / "runs" / "digits-seed0")
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
    formats = {path.name for path in (tmp_path / "runs" / "digits-seed0" / "export").iterdir()}
    assert formats == set(EXPORTERS)
