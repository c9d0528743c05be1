"""What the prediction command and :func:`zipper_dist.classify` say of image files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zipper_dist
from prediction.nearest import CENTRES, SHARPNESS, nearest
from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.config.schema import DataConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.data import load
from zipper_dist.errors import CommandError, UserError
from zipper_dist.models import ModelSpec, build
from zipper_dist.prediction.options import PredictOptions
from zipper_dist.prediction.run import run

NAMES = ("dark", "[grey]", "light")
SPEC = ModelSpec(f"{Path(__file__).parent / 'nearest.py'}:nearest", 3, 6, 8, 3, class_names=NAMES)
PIXEL = 1 / 255


def saved(directory: Path, spec: ModelSpec = SPEC, threat: str | None = "linf:0.1") -> Path:
    """A file of weights for 8 × 6 images."""
    file = directory / "weights.safetensors"
    extra = {} if threat is None else {"threat": threat}
    save_weights(file, build(spec).state_dict(), spec, extra)
    return file


def image(directory: Path, value: int, name: str = "") -> Path:
    """A file of an image of one grey."""
    path = directory / (name or f"{value}.png")
    Image.new("RGB", (8, 6), (value, value, value)).save(path)
    return path


def predicted(weights: Path, *images: Path, **options: Any) -> list[zipper_dist.Prediction]:
    return zipper_dist.classify(weights, images, trust=True, **options)


def softmax(value: float) -> list[float]:
    """The probabilities of the classes at a brightness, 0 … 1."""
    raised = [math.exp(-SHARPNESS * (value - centre) ** 2) for centre in CENTRES]
    return [each / sum(raised) for each in raised]


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "zipper_dist.predict", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True)


def test_classes_come_with_names_and_probabilities(tmp_path: Path) -> None:
    values = (10, 120, 250)
    found = predicted(saved(tmp_path), *(image(tmp_path, value) for value in values))
    assert [each.file for each in found] == [str(tmp_path / f"{value}.png") for value in values]
    for value, each in zip(values, found, strict=True):
        expected = softmax(value * PIXEL)
        order = sorted(range(3), key=lambda number: -expected[number])
        assert [guess.number for guess in each.top] == order
        assert [guess.name for guess in each.top] == [NAMES[number] for number in order]
        chances = [guess.probability for guess in each.top]
        assert chances == pytest.approx([expected[number] for number in order], abs=1e-5)
        assert each.attacks == ()


def test_only_the_first_classes_are_given(tmp_path: Path) -> None:
    weights, file = saved(tmp_path), image(tmp_path, 10)
    (whole,) = predicted(weights, file)
    (some,) = predicted(weights, file, top=2)
    assert some.top == whole.top[:2]
    with pytest.raises(UserError, match="--top 4: the network has only 3 classes"):
        predicted(weights, file, top=4)


def test_weights_without_names_give_numbers(tmp_path: Path) -> None:
    spec = ModelSpec(SPEC.arch, 3, 6, 8, 3)
    (found,) = predicted(saved(tmp_path, spec), image(tmp_path, 250), top=1)
    assert (found.top[0].name, found.top[0].number) == ("2", 2)


def test_an_attack_changes_what_lies_near_a_limit(tmp_path: Path) -> None:
    # The mean can be moved by 0.1, and the limits are at 0.3 and 0.7.
    values = {0.15: None, 0.25: "[grey]", 0.35: "dark", 0.5: None, 0.65: "light", 0.85: None}
    files = [image(tmp_path, round(255 * value)) for value in values]
    found = predicted(saved(tmp_path), *files, certify_pgd=True)
    for each, to in zip(found, values.values(), strict=True):
        (attack,) = each.attacks
        assert attack.threat == ThreatModel("linf", 0.1)
        assert (attack.changed, attack.to) == (to is not None, to)


def test_each_threat_model_is_tried(tmp_path: Path) -> None:
    weights, file = saved(tmp_path, threat="linf:0.1 linf:0.3"), image(tmp_path, 127)
    (found,) = predicted(weights, file, certify_pgd=True)
    assert [a.changed for a in found.attacks] == [False, True]
    given = [ThreatModel("l2", 1.0), ThreatModel("linf", 0.25)]
    (found,) = predicted(weights, file, certify_pgd=True, threats=given)
    assert [a.threat for a in found.attacks] == given
    assert [a.changed for a in found.attacks] == [False, True]


def test_an_image_that_is_left_without_an_answer_is_changed(tmp_path: Path) -> None:
    spec = ModelSpec(SPEC.arch.replace(":nearest", ":failing"), 3, 6, 8, 3, class_names=NAMES)
    weights = saved(tmp_path, spec)
    (found,) = predicted(weights, image(tmp_path, 220), certify_pgd=True)
    assert found.top[0].name == "light"
    assert (found.attacks[0].changed, found.attacks[0].to) == (True, None)
    with pytest.raises(CommandError, match="logits that are not finite"):
        predicted(weights, image(tmp_path, 10))


def test_the_prediction_is_that_of_the_logits(tmp_path: Path) -> None:
    """From which the attack starts, too; the probabilities have a tie."""
    spec = ModelSpec(SPEC.arch.replace(":nearest", ":sure"), 3, 6, 8, 3, class_names=NAMES)
    (found,) = predicted(saved(tmp_path, spec), image(tmp_path, 10), certify_pgd=True)
    assert [guess.name for guess in found.top] == ["[grey]", "dark", "light"]
    assert found.top[0].probability == found.top[1].probability
    assert not found.attacks[0].changed


def test_an_attack_needs_a_threat_model(tmp_path: Path) -> None:
    weights, file = saved(tmp_path, threat=None), image(tmp_path, 10)
    assert predicted(weights, file)[0].attacks == ()
    with pytest.raises(UserError, match=r"--threats: give one, such as linf:8/255, because"):
        predicted(weights, file, certify_pgd=True)
    with pytest.raises(UserError, match="--threats: is for the attack of --certify-pgd"):
        predicted(weights, file, threats=[ThreatModel()])
    with pytest.raises(UserError, match="its threat model is damaged"):
        predicted(saved(tmp_path, threat="linf"), file, certify_pgd=True)


def test_many_images_are_predicted_as_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipper_dist.prediction.run.GROUP", 2)
    monkeypatch.setattr("zipper_dist.prediction.network.batch_size_for", lambda *_: 1)
    weights = saved(tmp_path)
    files = [image(tmp_path, value) for value in (10, 70, 90, 120, 250)]
    apart = [predicted(weights, file, certify_pgd=True)[0] for file in files]
    assert predicted(weights, *files, certify_pgd=True) == apart


def test_images_are_taken_as_training_takes_them(tmp_path: Path) -> None:
    """Of any mode and size; what reaches the network is what ``folder`` decodes."""
    ramp = np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)
    colours = np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])
    picture = Image.fromarray(colours)
    kinds = {
        "rgb": picture,
        "large": picture.resize((80, 50)),
        "grey": Image.fromarray(ramp),
        "grey16": Image.fromarray(ramp.astype(np.uint16) * 257),
        "alpha": Image.fromarray(np.dstack([colours, ramp])),
        "palette": picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=8),
        "bits": Image.fromarray(ramp > 99),
    }
    for part in ("train", "test"):
        (tmp_path / part / "other").mkdir(parents=True)
        (tmp_path / part / "some").mkdir()
        picture.resize((8, 8)).save(tmp_path / part / "other" / "0.png")
        for name, kind in kinds.items():
            kind.save(tmp_path / part / "some" / f"{name}.png")
    root = tmp_path / "train" / "some"
    data = load(DataConfig("folder", tmp_path, image_size=8, validation="test"), 0)
    spec = ModelSpec(SPEC.arch, 3, 8, 8, 3, class_names=NAMES)
    found = predicted(saved(tmp_path, spec), *sorted(root.iterdir()))
    logits = nearest()(data.test.images[data.test.labels == 1].float() / 255)
    for each, expected in zip(found, logits.softmax(1).tolist(), strict=True):
        chances = {guess.number: guess.probability for guess in each.top}
        assert [chances[number] for number in range(3)] == pytest.approx(expected, abs=1e-6)


def test_a_network_of_grey_images_gets_grey_ones(tmp_path: Path) -> None:
    spec = ModelSpec(SPEC.arch, 1, 6, 8, 3, class_names=NAMES)
    path = tmp_path / "red.png"
    Image.new("RGB", (8, 6), (255, 0, 0)).save(path)  # its grey is 76
    (found,) = predicted(saved(tmp_path, spec), path)
    chances = sorted(guess.probability for guess in found.top)
    assert chances == pytest.approx(sorted(softmax(76 * PIXEL)), abs=1e-5)
    with pytest.raises(UserError, match="does not take images of 1 or 3 channels"):
        predicted(saved(tmp_path, ModelSpec(SPEC.arch, 4, 6, 8, 3)), path)


def test_code_from_outside_needs_trust(tmp_path: Path) -> None:
    weights, file = saved(tmp_path), image(tmp_path, 10)
    with pytest.raises(UserError, match=r"outside this package.*--trust"):
        zipper_dist.classify(weights, [file])
    refused = command(weights, file)
    assert refused.returncode == 2
    assert "--trust" in refused.stderr


def test_files_that_cannot_be_read_are_all_named(tmp_path: Path) -> None:
    weights, good = saved(tmp_path), image(tmp_path, 10)
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:40])
    (tmp_path / "link.png").symlink_to("nowhere")
    wrong = [tmp_path / name for name in ("absent.png", "link.png", "")]
    with pytest.raises(UserError) as refused:
        predicted(weights, good, *wrong)
    for words in ("absent.png (no such file)", "link.png (a broken link)", "(a directory: give"):
        assert words in str(refused.value)
    with pytest.raises(UserError, match=rf"cannot be read as images: {bad} \(.*\), {bad} ") as told:
        predicted(weights, bad, good, bad)
    assert str(good) not in str(told.value)
    with pytest.raises(UserError, match=r"\) and 2 more$"):
        predicted(weights, *[bad] * 7)
    with pytest.raises(UserError, match="give one or more files"):
        predicted(weights)


@pytest.mark.parametrize("kind", [str, Path])
def test_one_path_is_no_list_of_paths(tmp_path: Path, kind: type[str] | type[Path]) -> None:
    path: Any = kind(image(tmp_path, 10))
    with pytest.raises(UserError, match=rf"^images: give a list of paths, such as \['{path}'\]$"):
        zipper_dist.classify(saved(tmp_path), path, trust=True)


def test_weights_that_cannot_be_read(tmp_path: Path) -> None:
    file = image(tmp_path, 10)
    with pytest.raises(UserError, match="no weights here"):
        predicted(tmp_path, file)
    with pytest.raises(UserError, match="no such file"):
        predicted(tmp_path / "absent.safetensors", file)
    (tmp_path / "old.pt").touch()
    with pytest.raises(UserError, match=r"give a run directory or a \.safetensors file"):
        predicted(tmp_path / "old.pt", file)


def test_the_command_prints_a_table_and_writes_a_file(tmp_path: Path) -> None:
    weights, out = saved(tmp_path), tmp_path / "out.json"
    files = [image(tmp_path, value) for value in (10, 166)]
    words: list[str | Path] = [
        "--top",
        "2",
        "--certify-pgd",
        "--trust",
        "--json",
        out,
        "--device",
        "cpu",
    ]
    done = command(weights, *files, *words)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    dark = 100 * softmax(10 * PIXEL)[0]
    for part in (
        f"{dark:.1f} % dark", "[grey]", "changed to light", "not changed", "linf ε 0.1",
        "1 of 2 predictions changed", "not a certificate",
    ):  # fmt: skip
        assert part in said, part
    found = json.loads(out.read_text())
    assert "not a certificate" in found["note"]
    assert found["network"]["file"] == str(weights)
    (attack,) = found["attacks"]
    assert (attack["attack"], attack["norm"], attack["eps"]) == ("pgd-20", "linf", 0.1)
    first, second = found["images"]
    assert [guess["name"] for guess in first["top"]] == ["dark", "[grey]"]
    assert first["attacks"] == [{"threat": "linf:0.1", "changed": False, "to": None}]
    assert second["attacks"] == [{"threat": "linf:0.1", "changed": True, "to": "light"}]


@pytest.mark.parametrize("name", ["", "file/out.json"])
def test_a_file_that_cannot_be_written_is_named_before_anything_is_loaded(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    absent = tmp_path / "absent.safetensors"  # it would be named if it were loaded
    options = PredictOptions(absent, (image(tmp_path, 10),), json_file=tmp_path / name)
    with pytest.raises(UserError, match=r"--json .*: (is not a file|cannot be written)"):
        run(options)


def test_the_directory_of_the_file_is_created(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.json"
    run(PredictOptions(saved(tmp_path), (image(tmp_path, 10),), json_file=out, trust=True))
    assert len(json.loads(out.read_text())["images"]) == 1


def test_values_out_of_range_are_all_named(tmp_path: Path) -> None:
    options = PredictOptions(
        tmp_path, (tmp_path,), seed=2**63, threads=2000, top=0, certify_pgd=True
    )
    with pytest.raises(UserError) as refused:
        run(options)
    for words in (f"--seed {2**63}: give -", "--threads 2000: give at most", "--top 0: give 1"):
        assert words in str(refused.value)


def test_options_without_a_use_are_refused(tmp_path: Path) -> None:
    weights, files = saved(tmp_path), (image(tmp_path, 10),)
    unused = PredictOptions(weights, files, steps=20, restarts=1, seed=0, learner="best")
    with pytest.raises(UserError) as refused:
        run(unused)
    for option in ("--steps", "--restarts", "--seed"):
        assert f"{option}: is for the attack of --certify-pgd, which is not given" in str(
            refused.value
        )
    assert f"--learner best: is for a run directory; {weights} is a file" in str(refused.value)
    (found,) = run(
        PredictOptions(weights, files, steps=1, restarts=1, seed=0, certify_pgd=True, trust=True)
    )
    assert len(found.attacks) == 1


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ((), ("PGD-20", 20, 1, 0)),
        (("--steps", "3", "--restarts", "2", "--seed", "4"), ("PGD-3", 3, 2, 4)),
    ],
)
def test_the_settings_of_the_attack_are_written_down(
    tmp_path: Path, given: tuple[str, ...], taken: tuple[str, int, int, int]
) -> None:
    out = tmp_path / "out.json"
    words = ["--certify-pgd", "--trust", "--json", str(out), *given]
    done = command(saved(tmp_path), image(tmp_path, 10), *words)
    assert done.returncode == 0, done.stderr
    about = json.loads(out.read_text())
    (attack,) = about["attacks"]
    assert taken[0] in done.stdout
    assert (attack["steps"], attack.get("restarts", 1), about["seed"]) == taken[1:]
