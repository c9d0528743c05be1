"""What is added to the package from a file outside it, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from end_to_end import toys
from end_to_end.commands import typed
from end_to_end.conftest import Here
from end_to_end.results import summary
from zipper_dist.checkpoint.weights import load_model, load_weights
from zipper_dist.errors import UserError

pytestmark = pytest.mark.slow

SHORT = typed("""
    --threads 1 --device cpu --precision fp32 --compile off --steps 8 --batch-size 8
    --eval.attack-steps 1 --eval.limit 10 --run-dir run --data.source plugins/toys.py:HALVES
    --model.arch plugins/toys.py:linear
""")


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path) -> None:
    """The toys, in a file in the working directory."""
    (tmp_path / "plugins").mkdir()
    shutil.copy(toys.__file__, tmp_path / "plugins" / "toys.py")


def options(run: Path) -> Any:
    return json.loads((run / "config.json").read_text())["options"]


def test_objective_network_and_data(tmp_path: Path, here: Here) -> None:
    words = typed("""
        --learners.natural.clip --learners.natural.objective plugins/toys.py:Noise
        --learners.natural.sigma 0.3 digits
    """)
    assert here(*words, *SHORT) == 0
    run = tmp_path / "run"
    learner = options(run)["learners"]["natural"]
    assert learner["objective"] == "plugins/toys.py:Noise"
    assert (learner["sigma"], learner["clip"], learner["lr"]) == (0.3, True, 0.05)
    assert list(summary(run)["final"]["learners"]) == ["natural", "adversarial", "global"]
    # A file of weights runs no code of others, unless it is asked to.
    file = run / "global.safetensors"
    for load in (load_model, load_weights):
        with pytest.raises(UserError, match=r"toys.py:linear.*trust=True"):
            load(file)
    spec, state = load_weights(file, trust=True)
    assert (spec.arch, spec.channels, spec.height) == ("plugins/toys.py:linear", 1, 6)
    assert set(load_model(file, trust=True).state_dict()) == set(state)


def test_a_recipe_of_three_learners(tmp_path: Path, here: Here) -> None:
    assert here("plugins/toys.py:three", *SHORT, "--run-dir", "default") == 0
    run = tmp_path / "default"
    found = summary(run)
    assert list(found["final"]["learners"]) == ["clean", "linf", "l2", "global"]
    assert found["redistributions"] == 2
    assert options(run)["recipe"] == "plugins/toys.py:three"
    # And once more, from what the run left behind.
    assert here("--config", "default/config.json", "--run-dir", "again") == 0
    assert options(tmp_path / "again")["mix"] == options(run)["mix"]
    again = summary(tmp_path / "again")
    assert again["final"] == found["final"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--learners.natural.objective plugins/toys.py:Nois", "cannot be loaded: AttributeError"),
        ("--learners.natural.objective plugins/toys.py:linear", "must be a subclass"),
        ("--learners.natural.objective plugins/toys.py:Noise --learners.natural.sigma -1", "sigma"),
        ("--learners.natural.beta 1", "natural has no such option"),
        ("--model.arch plugins/toys.py:three", "makes a TrainConfig, no nn.Module"),
        ("--data.source plugins/toys.py:three", "has no fetch and read"),
        ("plugins/toys.py:HALVES", "cannot be made: TypeError"),
        ("plugins/absent.py:three", "cannot be loaded: FileNotFoundError"),
        ("plugins/toys.py:three --mix.weights.l2 0.5", "their sum at progress 0 is 1.2"),
    ],
)
def test_mistakes_are_told_in_a_line(
    here: Here, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert here(*SHORT, *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
