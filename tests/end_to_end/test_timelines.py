"""What every rank did, and when, as a run leaves it in trace-RANK.json."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from timelines import Timeline, draw

from end_to_end.commands import SMALL, Command, stopped, succeeded, train, typed
from end_to_end.results import assert_same_result
from zipper_dist.metrics.trace import Event, read_events

pytestmark = pytest.mark.slow

FIRST, LAST = 8, 18  # redistribution after 16, evaluation and checkpoint after 14
SHARDS = 2
SHARED = [*SMALL, *typed("--log-every 5 --placement.mode shared --placement.shards 2")]
TRACE = typed(f"--trace {FIRST}:{LAST}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that share the learners."""
    at = tmp_path_factory.mktemp("traced")
    succeeded(train(*SHARED, *TRACE, at=at, ranks=2))
    return at / "run"


@pytest.fixture(scope="module")
def ranks(run: Path) -> list[list[Event]]:
    """The events of each rank."""
    assert {path.name for path in run.glob("*trace*")} == {"trace-0.json", "trace-1.json"}
    return [read_events(run / f"trace-{rank}.json") for rank in (0, 1)]


def test_spans_of_a_rank_do_not_overlap_and_leave_little_out(ranks: list[list[Event]]) -> None:
    covered = []
    for rank, events in enumerate(ranks):
        assert {event["pid"] for event in events} == {rank}
        for one, two in itertools.pairwise(events):
            assert one["ts"] + one["dur"] <= two["ts"]
        whole = events[-1]["ts"] + events[-1]["dur"] - events[0]["ts"]
        covered.append(sum(event["dur"] for event in events) / whole)
    assert max(covered) >= 0.9
    # By one clock: the ranks train together.
    assert max(events[0]["ts"] for events in ranks) < min(events[-1]["ts"] for events in ranks)


def test_every_shard_of_every_learner_is_trained_on_one_rank(ranks: list[list[Event]]) -> None:
    for activity, learners in (
        ("attack", ["adversarial"]),
        ("training step", ["adversarial", "natural"]),
    ):
        done = [
            {
                (event["args"]["iteration"], event["args"]["learner"], event["args"]["shard"])
                for event in events
                if event["name"] == activity and "shard" in event["args"]
            }
            for events in ranks
        ]
        assert done[0].isdisjoint(done[1])
        assert done[0] | done[1] == set(
            itertools.product(range(FIRST, LAST + 1), learners, range(SHARDS))
        )


def test_what_is_due_is_there_when_it_is_due(ranks: list[list[Event]]) -> None:
    def iterations(activity: str) -> set[int]:
        found = [
            e["args"]["iteration"] for events in ranks for e in events if e["name"] == activity
        ]
        return set(found)

    assert iterations("redistribution") == {16}
    assert iterations("checkpoint") == {14}
    assert min(iterations("evaluating")) >= 14
    assert iterations("mixing") <= set(range(FIRST, LAST + 1))
    assert iterations("all-reduce")


def test_the_result_is_that_of_a_run_without(run: Path, tmp_path: Path) -> None:
    succeeded(train(*SHARED, at=tmp_path))
    assert_same_result(run, tmp_path / "run")
    assert not list((tmp_path / "run").glob("trace*"))


def test_the_timeline_can_be_drawn(run: Path, tmp_path: Path) -> None:
    timeline = Timeline.of(run)
    assert timeline.title == f"shared on 2 ranks, iterations {FIRST} to {LAST}"
    words = timeline.draw(Figure().subplots())
    assert {"natural: training step", "adversarial: attack", "all-reduce"} <= set(words)
    assert len(set(words.values())) == len(words)
    draw([timeline, timeline], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_writes_it_and_goes_on_with_it(tmp_path: Path) -> None:
    def stop(command: Command) -> None:
        command.process.send_signal(signal.SIGTERM)

    stopped(stop, tmp_path, 1, 8, [*SMALL, "--trace", "5:36"])
    path = tmp_path / "run" / "trace-0.json"
    begun = read_events(path)
    succeeded(train(*SMALL, "--trace", "5:30", at=tmp_path))
    events = read_events(path)
    assert 5 < begun[-1]["args"]["iteration"] < 30
    assert events[: len(begun)] == begun
    attacked = [e["args"]["iteration"] for e in events if e["name"] == "attack"]
    assert attacked == list(range(5, 31))
    assert json.loads(path.read_text())["displayTimeUnit"] == "ms"
