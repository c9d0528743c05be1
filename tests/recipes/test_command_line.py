"""Options from words, files and mappings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zipper_dist
from zipper_dist.checkpoint.options import as_json
from zipper_dist.config.schedules import Schedule, iterations
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.objectives.trades import TradesConfig
from zipper_dist.recipes import recipe
from zipper_dist.recipes.command_line import parse_train_options, train_options

ADVERSARIAL = "--learners.adversarial"


@pytest.mark.parametrize(
    "words",
    [
        ["mnist", "--seed", "3", "--data.flip"],
        ["--seed", "3", "mnist", "--data.flip"],
        ["--seed", "3", "--data.flip", "mnist"],
        ["--data.flip", "--seed=3", "mnist"],
        ["--data.flip", "mnist", "--seed", "3"],
    ],
)
def test_options_may_come_before_the_recipes_name(words: list[str]) -> None:
    config = parse_train_options(words)
    assert (config.recipe, config.seed, config.data.flip) == ("mnist", 3, True)
    assert config.learners == recipe("mnist").learners


def test_the_value_of_an_option_is_not_taken_for_the_recipe() -> None:
    config = parse_train_options(["--data.source", "mnist", "--run-dir", "cifar10"])
    assert (config.recipe, config.data.source, config.run_dir) == (
        "digits",
        "mnist",
        Path("cifar10"),
    )
    config = parse_train_options(["--eval.threats", "linf:0.3", "l2:2", "cifar10-at"])
    assert config.recipe == "cifar10-at"
    assert config.threats() == (ThreatModel("linf", 0.3), ThreatModel("l2", 2.0))


@pytest.mark.parametrize("joined", [False, True])
def test_an_objective_brings_its_options(joined: bool) -> None:
    words = [f"{ADVERSARIAL}.objective", "trades"]
    words = ["=".join(words)] if joined else words
    config = parse_train_options([f"{ADVERSARIAL}.beta", "3", *words, "mnist"])
    learner, before = config.learners["adversarial"], recipe("mnist").learners["adversarial"]
    assert isinstance(learner, TradesConfig)
    assert (learner.objective, learner.beta) == ("trades", 3.0)
    # What both have is as it was.
    assert (learner.lr, learner.schedule) == (before.lr, before.schedule)
    assert learner.threat() == before.threat() == ThreatModel("linf", 0.3)


def test_an_objective_gets_its_own_defaults_unless_the_recipe_sets_them() -> None:
    def beta(name: str) -> Any:
        config = parse_train_options([name, f"{ADVERSARIAL}.objective", "mart"])
        return vars(config.learners["adversarial"])["beta"]

    assert beta("cifar10-trades") == 5.0
    assert beta("mnist-trades") == 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("digits", "beta: at has no such option; .*mart, .*trades have it"),
        (f"digits {ADVERSARIAL}.objective fat", "beta: fat has no such option"),
        ("cifar10-at", "beta: at has no such option"),
    ],
)
def test_an_option_of_another_objective_is_refused(words: str, message: str) -> None:
    for option in ([f"{ADVERSARIAL}.beta", "3"], [f"{ADVERSARIAL}.beta=3"]):
        with pytest.raises(UserError, match=message):
            parse_train_options([*words.split(), *option])
    with pytest.raises(UserError, match="tau: at has no such option; fat has it"):
        parse_train_options([f"{ADVERSARIAL}.tau", "1"])


def test_mixing_weights() -> None:
    config = parse_train_options(
        ["--mix.weights.natural", "0:0.5,1:0.2", "--mix.weights.adversarial", "0:0.5,1:0.8"]
    )
    assert config.mix.weights == {
        "natural": Schedule.parse("0:0.5,1:0.2"),
        "adversarial": Schedule.parse("0:0.5,1:0.8"),
    }
    assert parse_train_options([]).mix.weights == {}


OPTIONS = {
    "recipe": "mnist",
    "seed": 7,
    "run_dir": None,
    "mix": {"every": 50, "gamma": "0:1,1:0.5"},
    "mix.start": "0.5",
    "data": {"flip": True, "crop-padding": 1},
    "eval": {"threats": ["linf:0.1", "l2:1"]},
    "learners": {"adversarial": {"objective": "trades", "beta": 2, "attack": {"eps": 0.1}}},
}
YAML = """
recipe: mnist
seed: 7
mix: {every: 50, gamma: "0:1,1:0.5", start: "0.5"}
data:
  flip: true
  crop_padding: 1
eval.threats: [linf:0.1, l2:1]
learners.adversarial: {objective: trades, beta: 2}
learners.adversarial.attack.eps: 0.1
"""


@pytest.mark.parametrize(("name", "text"), [("a.json", json.dumps(OPTIONS)), ("a.yaml", YAML)])
def test_options_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    config = parse_train_options(["--config", str(file)])
    assert (config.recipe, config.seed, config.mix.every) == ("mnist", 7, iterations(50))
    assert (str(config.mix.start), str(config.mix.gamma)) == ("0.5", "0:1,1:0.5")
    assert (config.data.flip, config.data.crop_padding) == (True, 1)
    assert config.threats() == (ThreatModel("linf", 0.1), ThreatModel("l2", 1.0))
    learner = config.learners["adversarial"]
    assert isinstance(learner, TradesConfig)
    assert (learner.beta, learner.attack.eps, learner.attack.steps) == (2.0, 0.1, 40)
    # The command line wins, also about the recipe and the objective.
    words = ["--seed", "8", "--data.no-flip", f"--config={file}", "--mix.every", "1ep"]
    config = parse_train_options(words)
    assert (config.seed, config.data.flip, str(config.mix.every)) == (8, False, "1ep")
    assert parse_train_options(["digits", "--config", str(file)]).recipe == "digits"


@pytest.mark.parametrize("name", ["digits", "cifar10-mart", "mnist-fat", "svhn-natural"])
def test_a_runs_config_gives_its_options(tmp_path: Path, name: str) -> None:
    config = parse_train_options([name, "--seed", "4", "--data.flip"])
    (tmp_path / "config.json").write_text(json.dumps({"options": as_json(config), "host": "x"}))
    assert parse_train_options(["--config", str(tmp_path / "config.json")]) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sed": 1}', "sed: there is no such option"),
        ('{"learners": {"nobody": {"lr": 1}}}', "learners.nobody.lr: there is no such option"),
        ('{"learners.adversarial.beta": 1}', "at has no such option; .*mart, .*trades have it"),
        ('{"mix": 3}', "mix is a group of options"),
        ("[1]", "give options by name"),
        ("{", "damaged"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        parse_train_options(["--config", str(file)])


def test_options_from_a_mapping(capsys: pytest.CaptureFixture[str]) -> None:
    config = train_options("digits", {"steps": 60, "mix.every": 10, "eval": {"limit": 5}})
    assert (config.steps, config.mix.every, config.eval.limit) == (60, iterations(10), 5)
    assert isinstance(config.learners["natural"], NaturalConfig)
    for wrong, named in (({"steps": "many"}, "--steps"), ({"stps": 1}, "stps")):
        with pytest.raises(UserError, match=named):
            train_options("digits", wrong)
    assert capsys.readouterr() == ("", "")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    line = line.replace("python", sys.executable)
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


def test_help_that_nobody_reads_to_its_end_and_the_version() -> None:
    done = shell("python -m zipper_dist.train --help | head -n 1; echo ${PIPESTATUS[0]}")
    assert done.stderr == ""
    assert done.stdout.startswith("usage: zipper_dist.train [RECIPE]")
    assert done.stdout.splitlines()[-1] in ("0", "141")
    done = shell("python -m zipper_dist.train mnist --version")
    assert (done.stdout, done.returncode) == (f"zipper_dist {zipper_dist.__version__}\n", 0)


@pytest.mark.parametrize("kind", ["bash", "zsh"])
def test_shell_completion(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_train_options(["mnist-trades", "--tyro-print-completion", kind])
    script = capsys.readouterr().out
    assert not end.value.code
    assert "zipper-train" in script
    assert "RECIPE" not in script
    assert "--learners.adversarial.beta" in script


@pytest.mark.parametrize(
    ("line", "offered"), [("mnist --prec", ["--precision"]), ("--compile o", ["on", "off"])]
)
def test_bash_offers_options_and_nothing_else(
    line: str, offered: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_train_options(["--tyro-print-completion", "bash"])
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    words = f"COMP_WORDS=(zipper-train {line}); COMP_CWORD={len(line.split())}"
    offer = '_tyro_zipper_train; printf "%s\\n" "${COMPREPLY[@]}"'
    done = shell(f"source {tmp_path}/completion; {words}; {offer}")
    assert done.stdout.split() == offered
