"""Files may hold anything: they are used, or one line says what is wrong with them."""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.checkpoint.state_dicts import read_state_dict
from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.errors import CommandError, UserError
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.target import data_config, load_target, threats_of
from zipper_dist.metrics.tables import print_summary
from zipper_dist.models import ModelSpec, build
from zipper_dist.recipes.command_line import parse_train_options
from zipper_dist.recipes.registry import recipe

FP32 = {"precision": "fp32", "compiled": False, "shards": 1}  # what config.json resolves

SPEC = ModelSpec("small_cnn", 1, 16, 16, 10, 0.25)
SUMMARY: dict[str, Any] = {
    "recipe": "digits",
    "steps": 3,
    "wall_seconds": 1.5,
    "evaluation_attack": {"norm": "linf", "eps": 0.1, "step_size": None, "steps": 20},
    "final": {"images": 40, "learners": {"global": {"clean": 50.0, "robust": 25}}},
    "best": {"step": 3, "learner": "global", "clean": 50.0, "robust": 25.0},
    "sha256": {"global": "00"},
    "ranks": [
        {
            **{"rank": 0, "learners": ["natural"], "syncs": 1, "comm_bytes": 8},
            **{"busy_seconds": 1.0, "eval_seconds": 1.0, "wait_seconds": 0.0},
        }
    ],
}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text("a:/.0-é", max_size=4)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text("ab.-", max_size=3), inner)
)
many = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values within a JSON value are, itself first."""
    yield before
    inner = value.items() if isinstance(value, dict) else []
    for key, item in enumerate(value) if isinstance(value, list) else inner:
        yield from places(item, (*before, key))


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with something in it removed, or anything in its place."""
    path: list[Any] = ["", *draw(st.sampled_from(list(places(value))))]
    above, last = path[:-1], path[-1]
    whole = {"": copy.deepcopy(value)}
    node: Any = whole
    for key in above:
        node = node[key]
    if last != "" and draw(st.integers(0, 3)) == 0:
        del node[last]
    else:
        node[last] = draw(anything)
    return whole[""]


def used_or_refused(use: Callable[[], object]) -> None:
    """Do it; there may be one line on what is wrong, and no other error."""
    message = ""
    try:
        use()
    except CommandError as error:
        message = str(error)
    except SystemExit as end:  # of the parser, which has printed it
        message = "" if end.code == 2 else f"status\n{end.code}"
    assert "\n" not in message


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    directory.write_config(recipe("digits"), FP32, ["cpu"])
    save_weights(directory.weights("global"), build(SPEC).state_dict(), SPEC)
    return directory


@pytest.fixture(scope="module")
def config(run: RunDirectory) -> Any:
    return json.loads(run.config.read_text())


@many
@given(data=st.data())
def test_a_config_of_any_shape(run: RunDirectory, config: Any, data: st.DataObject) -> None:
    run.config.write_text(json.dumps(data.draw(changed(config))))

    def evaluate() -> None:
        options = EvaluateOptions(run.root)
        target = load_target(options)
        threats_of(target, data_config(target, options).source, options)

    used_or_refused(lambda: run.check_same(recipe("digits"), "fp32"))
    used_or_refused(lambda: run.notes_on_compiling(True))
    used_or_refused(evaluate)


@pytest.mark.parametrize("shards", ["two", [], 1.5, 1e400])
def test_what_is_no_number_of_shards_is_refused(
    run: RunDirectory, config: Any, shards: object
) -> None:
    config = config | {"resolved": config["resolved"] | {"shards": shards}}
    run.config.write_text(json.dumps(config))
    with pytest.raises(UserError, match="is damaged"):
        run.check_same(recipe("digits"), "fp32")


def test_a_run_that_names_no_shards_has_one(run: RunDirectory, config: Any) -> None:
    for resolved in (config["resolved"], config["resolved"] | {"shards": None}):
        run.config.write_text(json.dumps(config | {"resolved": resolved}))
        assert run.check_same(recipe("digits"), "fp32") == 1


@many
@given(data=st.data())
def test_options_of_any_shape(
    run: RunDirectory, config: Any, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    file = run.root / "options.json"
    file.write_text(json.dumps(data.draw(changed(config["options"]))))
    used_or_refused(lambda: parse_train_options(["--config", str(file)]))
    capsys.readouterr()


@many
@given(value=changed(SUMMARY))
def test_a_summary_of_any_shape(run: RunDirectory, value: Any) -> None:
    run.summary.write_text(json.dumps(value))

    def show() -> None:
        summary = run.finished()
        assert summary is not None
        run.lost(["global"], summary.get("sha256") or {})
        print_summary(summary, Console(file=io.StringIO()))

    used_or_refused(show)


@pytest.mark.parametrize(
    "content",
    [{0: torch.zeros(1)}, {"a": torch.zeros(1), 1: torch.zeros(1)}, [torch.zeros(1)], 3, {}],
    ids=["integers", "mixed", "list", "number", "empty"],
)
def test_a_pt_file_without_a_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="holds no state dict"):
        read_state_dict(tmp_path / "weights.pt")


def test_a_damaged_pt_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.arange(4.0), "bias": torch.zeros(2)}, path)
    content = path.read_bytes()
    chance = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.choice([None, None, chance.randrange(len(damaged))])])
        used_or_refused(lambda: read_state_dict(path))
