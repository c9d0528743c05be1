from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpoint.parts import FP32
from zipper_dist.checkpoint.options import as_json, differences, identity_of
from zipper_dist.checkpoint.run_directory import RunDirectory, write_json
from zipper_dist.config.schedules import Schedule, iterations
from zipper_dist.config.schema import MixConfig, Precision, TrainConfig
from zipper_dist.errors import UserError
from zipper_dist.recipes.registry import RECIPES, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_options_are_plain_json(name: str) -> None:
    options = as_json(recipe(name))
    assert json.loads(json.dumps(options)) == options
    assert options["recipe"] == name


def test_options_are_written_as_a_person_would() -> None:
    options = as_json(replace(recipe("cifar10"), run_dir=Path("runs") / "a"))
    assert options["run_dir"] == os.path.join("runs", "a")
    assert options["steps"] is None
    assert options["batch_size"] == 128
    assert options["data"]["flip"] is True
    assert options["mix"] == {
        "every": "0.041666666666666664",
        "start": "0.625",
        "ema": 0.999,
        "window": "1",
        "gamma": "0:1,0.333333:1,0.666667:1,1:0.4",
        "first_count": 1,
        "weights": {},
    }
    attack = options["learners"]["adversarial"]["attack"]
    assert attack["eps"] == 8 / 255
    assert attack["schedule"] == "1"
    assert "attack" not in options["learners"]["natural"]


BEFORE = json.loads((Path(__file__).parent / "options_before.json").read_text())
"""Options of recipes, and the digests of them, as an earlier version wrote them."""


@pytest.mark.parametrize("name", BEFORE)
def test_an_option_that_is_new_does_not_make_a_run_another_one(name: str) -> None:
    now = recipe(name)
    assert differences(BEFORE[name]["options"], as_json(now)) == []
    assert identity_of(now, "fp32", 1) == BEFORE[name]["identity"]


def test_differences_name_the_options_as_they_are_given() -> None:
    one = replace(recipe("cifar10"), batch_size=64)
    learners = {
        **one.learners,
        "adversarial": replace(one.learners["adversarial"], weight_decay=0.25),
    }
    other = replace(
        one,
        batch_size=32,
        mix=replace(one.mix, every=iterations(7)),
        learners=learners,
        data=replace(one.data, root=Path("elsewhere")),
    )
    assert differences(as_json(one), as_json(other)) == [
        "--batch-size 64 there, 32 now",
        "--data.root data there, elsewhere now",
        "--learners.adversarial.weight-decay 0.0035 there, 0.25 now",
        "--mix.every 0.041666666666666664 there, 7 now",
    ]
    assert differences(as_json(one), as_json(one)) == []


def test_where_a_run_is_and_how_it_resumes_make_no_difference() -> None:
    one = recipe("digits")
    other = replace(one, run_dir=Path("elsewhere"), resume="never")
    assert differences(as_json(one), as_json(other)) == []


def test_runs_that_may_continue_each_other_have_one_identity() -> None:
    config = recipe("digits")
    one = identity_of(config, "fp32", 1)
    elsewhere = replace(config, run_dir=Path("elsewhere"), resume="never", metrics=())
    assert identity_of(elsewhere, "fp32", 1) == one
    # From Python, numbers may come as others that are equal.
    same = replace(config, learners=with_natural(config, lr=1), batch_size=64)
    also = replace(config, learners=with_natural(config, lr=1.0), batch_size=64)
    assert differences(as_json(same), as_json(also)) == []
    assert identity_of(same, "fp32", 1) == identity_of(also, "fp32", 1)


def with_natural(config: TrainConfig, **options: Any) -> dict[str, Any]:
    return {**config.learners, "natural": replace(config.learners["natural"], **options)}


def test_runs_of_other_results_have_other_identities() -> None:
    config = recipe("digits")
    others: list[tuple[TrainConfig, Precision]] = [
        (replace(config, seed=1), "fp32"),
        (replace(config, seed=2**53), "fp32"),
        (replace(config, seed=2**53 + 1), "fp32"),
        (replace(config, learners=with_natural(config, lr=0.123)), "fp32"),
        (replace(config, mix=replace(config.mix, every=iterations(7))), "fp32"),
        (config, "bf16"),
        (config, "fp32"),
    ]
    digests = {identity_of(*each, 1) for each in others}
    assert len(digests) == len(others)
    assert all(len(digest) == 64 for digest in digests)


def test_options_that_one_side_lacks_are_differences() -> None:
    there: dict[str, Any] = {"seed": 1, "learners": {"natural": {"lr": 0.1}}}
    here: dict[str, Any] = {"seed": 1, "learners": {"trades": {"lr": 0.1}}}
    assert differences(there, here) == [
        "--learners.natural.lr 0.1 there, None now",
        "--learners.trades.lr None there, 0.1 now",
    ]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (MixConfig(every=iterations(1234567)), MixConfig(every=iterations(1234568))),
        (
            MixConfig(gamma=Schedule(((0.0, 0.12345678),))),
            MixConfig(gamma=Schedule(((0.0, 0.12345679),))),
        ),
    ],
    ids=["interval", "schedule"],
)
def test_the_last_digits_are_differences(there: MixConfig, here: MixConfig) -> None:
    one = TrainConfig()
    options = [as_json(replace(one, mix=mix)) for mix in (there, here)]
    assert len(differences(*options)) == 1


def test_the_default_directory_is_named_after_recipe_and_seed() -> None:
    config = replace(recipe("mnist"), seed=3)
    assert RunDirectory.of(config).root == Path("runs/mnist-seed3")
    assert RunDirectory.of(replace(config, run_dir=Path("here"))).root == Path("here")


def test_the_files_are_where_the_documentation_says() -> None:
    directory = RunDirectory(Path("run"))
    assert directory.config == Path("run/config.json")
    assert directory.metrics == Path("run/metrics.jsonl")
    assert directory.summary == Path("run/summary.json")
    assert directory.checkpoints == Path("run/checkpoints")
    assert directory.best == directory.weights("best") == Path("run/best.safetensors")
    assert directory.weights("global") == Path("run/global.safetensors")


def test_the_same_options_may_continue(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    config = recipe("cifar10")
    directory.check_same(config, "fp32")  # nothing was begun here
    directory.write_config(config, FP32, ["cpu", "cpu"])
    directory.check_same(config, "fp32")
    directory.check_same(replace(config, resume="never", run_dir=tmp_path), "fp32")


def test_other_options_are_refused_by_name(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    config = replace(recipe("digits"), seed=0, epochs=40)
    directory.write_config(config, FP32, ["cpu"])
    with pytest.raises(UserError) as raised:
        directory.check_same(replace(config, seed=1, epochs=41), "fp32")
    message = str(raised.value)
    assert "--seed 0 there, 1 now" in message
    assert "--epochs 40 there, 41 now" in message
    assert str(tmp_path) in message
    assert "--resume never" in message
    assert "\n" not in message
    assert message.count(" there, ") == 2


def test_a_run_of_an_earlier_version_has_options_less(tmp_path: Path) -> None:
    directory, config = RunDirectory(tmp_path), recipe("digits")
    directory.write_config(config, {"precision": "fp32"}, ["cpu"])
    about = json.loads(directory.config.read_text())
    for group, name in (("data", "skip_unreadable"), (None, "timeout"), (None, "placement")):
        del (about["options"][group] if group else about["options"])[name]
    for name in ("options", "weights", "normalise"):
        del about["options"]["model"][name]
    for learner in about["options"]["learners"].values():
        del learner["optimizer"], learner["beta2"]
    write_json(directory.config, about)
    assert directory.check_same(config, "fp32") == 1
    # What would change the result is a difference all the same.
    skipping = replace(config, data=replace(config.data, skip_unreadable=True))
    with pytest.raises(UserError, match=r"\(--data.skip-unreadable False there, True now\)"):
        directory.check_same(skipping, "fp32")


def test_what_means_something_else_has_another_digest() -> None:
    config = recipe("digits")
    skipping = replace(config, data=replace(config.data, skip_unreadable=True))
    options = [(config, 1), (config, 2), (skipping, 1)]
    assert len({identity_of(each, "fp32", shards) for each, shards in options}) == 3


def test_another_meaning_of_auto_is_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_config(recipe("digits"), FP32 | {"precision": "bf16"}, ["cpu"])
    directory.check_same(recipe("digits"), "bf16")
    with pytest.raises(UserError, match="--precision auto meant bf16 there, fp32 here"):
        directory.check_same(recipe("digits"), "fp32")


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "{}", '{"versions": {}}', "3", "[]", "[" * 100_000, '{"options": []}'),
        '{"options": {}, "resolved": []}',
    ],
    ids=lambda content: content[:20],
)
def test_a_damaged_config_is_a_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="damaged") as raised:
        RunDirectory(tmp_path).check_same(recipe("digits"), "fp32")
    assert str(tmp_path / "config.json") in str(raised.value)


@pytest.mark.parametrize("content", ["[]", '{"options": 3}', '{"options": {"mix": 3}}'])
def test_a_config_of_other_origin_is_a_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError):
        RunDirectory(tmp_path).check_same(recipe("digits"), "fp32")
