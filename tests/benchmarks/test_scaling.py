"""`make bench-scaling`: what it measures is what ranks did, and its model behaves as it must."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_scaling
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaling import measuring
from scaling.accounting import RankBout, Span, account, summarise
from scaling.cases import BASELINES, EQUAL, NETWORKS, UNEQUAL, Variant
from scaling.crew import Crew
from scaling.model import Cost, Link, Workload
from scaling.predictions import loopback, workload
from scaling.targets import Target, allowed, targets

from zipper_dist.config.placement import Mode

QUICK = NETWORKS["small_cnn"].quick()
CORES = sorted(os.sched_getaffinity(0))[:2]
two_cores = pytest.mark.skipif(len(CORES) < 2, reason="takes two cores")

MODES: tuple[Mode, ...] = ("dedicated", "shared", "balanced")
seconds = st.floats(1e-3, 10)
costs = st.builds(Cost, st.floats(0, 1), seconds)
workloads = st.builds(
    lambda each, *others: Workload({"natural": each[0], "adversarial": each[1]}, *others),
    st.tuples(costs, costs), st.floats(0, 1), st.integers(1, 10**9),
)  # fmt: skip
ranks = st.sampled_from([2, 4, 8, 16, 64])
links = st.builds(Link, st.just("a link"), st.floats(1e6, 1e12), st.floats(0, 0.1), st.booleans())


def test_time_is_work_waiting_or_communication() -> None:
    """Rank 0 posts a sum at 1 and waits for it from 2 on; rank 1 posts it at 5; it travels until
    6. Rank 1 begins 0.5 late; rank 0 ends 1 before it."""
    one = RankBout(0.0, 7.0, (Span("natural", 1, 2, 6),), 3.0, 8, {"natural": 2.0})
    two = RankBout(0.5, 8.0, (Span("natural", 5, 5, 6),), 6.5, 8, {"natural": 6.0})
    found = account([one, two], 2, "sync")
    assert found["seconds"] == 8
    assert found["waiting"] == [3 + 1, 0.5]
    assert found["communication"] == [1, 1]
    assert found["sync"] == [0, 0]
    shares = summarise([found])
    assert shares["seconds"] == 4
    assert shares["by_rank"]["busy"] == [3 / 8, 6.5 / 8]
    assert shares["waiting"] == (4 + 0.5) / 16
    assert shares["learners"] == {"natural": 4}


def test_messages_are_paired_by_kind_and_order() -> None:
    """Ranks that wait for other learners in another order."""
    one = RankBout(0, 9, (Span("a", 0, 1, 4), Span("b", 5, 5, 6), Span("a", 7, 7, 8)), 0, 0, {})
    two = RankBout(0, 9, (Span("a", 3, 3, 4), Span("a", 7, 7, 8), Span("b", 5.5, 5.5, 6)), 0, 0, {})
    found = account([one, two], 1, "sync")
    assert found["waiting"] == [2 + 0.5, 0]
    assert found["communication"] == [1 + 0.5 + 1] * 2


def test_a_redistribution_costs_what_the_last_rank_stands_there() -> None:
    """Rank 0 waits for rank 1, which does not; both wait while the message travels."""
    one = RankBout(0, 10, (Span("sync", 2, 2, 9),), 0, 0, {})
    two = RankBout(0, 10, (Span("sync", 8, 8, 9),), 0, 0, {})
    found = account([one, two], 1, "sync")
    assert found["stopped"] == 1
    assert found["sync_seconds"] == 1
    without = account([replace(one, spans=()), replace(two, spans=())], 1, "sync")
    # The median turn has none; an interval of five turns has one.
    figures = summarise([without, without, found, without, without])
    assert figures["seconds"] == 10 + 1 / 5
    assert figures["stopped_at_sync"] == 1 / 50


@given(workloads, st.sampled_from(MODES), links)
def test_one_rank_is_the_serial_run(load: Workload, mode: Mode, link: Link) -> None:
    predicted = load.predict(load.assign(mode, 1, 1), link)
    whole = sum(cost.fixed + cost.images for cost in load.learners.values())
    assert predicted == pytest.approx(load.rest + whole)


@given(workloads, st.sampled_from(MODES), ranks, links, st.floats(1, 100))
def test_a_better_link_never_takes_longer(
    load: Workload, mode: Mode, count: int, link: Link, times: float
) -> None:
    assignment = load.assign(mode, count, load.shards(mode, count))
    before = load.predict(assignment, link)
    faster = replace(link, bandwidth=times * link.bandwidth)
    assert load.predict(assignment, faster) <= before
    assert load.predict(assignment, replace(link, latency=link.latency / times)) <= before
    assert load.predict(assignment, replace(link, overlaps=True)) <= before


@given(workloads, st.sampled_from(MODES), ranks, links)
def test_no_prediction_beats_the_work(load: Workload, mode: Mode, count: int, link: Link) -> None:
    """The images' part of the costs is divided at best."""
    predicted = load.predict(load.assign(mode, count, load.shards(mode, count)), link)
    images = sum(cost.images for cost in load.learners.values())
    assert predicted >= (load.rest + images / count) * (1 - 1e-9)


@given(st.lists(seconds, min_size=2, max_size=2), ranks)
def test_shared_is_ideal_where_nothing_else_costs(whole: list[float], count: int) -> None:
    load = Workload({"a": Cost(0, whole[0]), "b": Cost(0, whole[1])}, 0.0, 1)
    instant = Link("none", float("inf"), 0.0)
    predicted = load.predict(load.assign("shared", count, count), instant)
    assert predicted == pytest.approx(sum(whole) / count)


def test_a_sum_is_hidden_by_what_follows_it() -> None:
    """4 bytes travel for 4 s in all; the first learner's, while the second is trained for 5 s."""
    load = Workload({"a": Cost(0, 2), "b": Cost(0, 10)}, 0.0, 4, every=0)
    link = Link("slow", 1.0, 0.0)
    both = load.assign("shared", 2, 2)
    assert load.predict(both, link) == 1 + 5 + 4
    assert load.predict(both, replace(link, overlaps=False)) == 1 + 4 + 5 + 4
    # A redistribution is two more sums: weights and checksums. Whole learners need no other.
    alone = load.assign("dedicated", 2, 1)
    assert replace(load, every=10).predict(alone, link) == 10 + (4 + 8 * 2 * 3) / 10


def test_a_slow_rank_gets_less() -> None:
    load = Workload({"a": Cost(0, 8.0)}, 0.0, 0)
    link, speeds = Link("fast", 1e12, 0.0), [1.0, 1 / 3]
    shared = load.predict(load.assign("shared", 2, 8), link, speeds)
    balanced = load.predict(load.assign("balanced", 2, 8, speeds), link, speeds)
    assert shared == pytest.approx(12)
    assert balanced == pytest.approx(6)


def test_costs_are_fitted_to_one_and_two_shards() -> None:
    cost = Cost.fitted(10, 12)
    assert (cost.fixed, cost.images) == (2, 8)
    assert (cost.of(1, 1), cost.of(2, 2), cost.of(1, 2)) == (10, 12, 6)
    assert Cost.fitted(12, 10) == Cost(0, 10)  # smaller shards fit into a cache


def test_the_link_is_what_redistributions_showed() -> None:
    found = {"dedicated-2": {"sync_seconds": 0.0502}}
    assert loopback(found, 10**8).bandwidth == pytest.approx(2e9)


def figures(**changes: float) -> dict[str, Any]:
    """Of a measurement in which all is as it should be."""
    seconds = {"serial": 10.0, "serial-2-shards": 10.0, "dedicated-2": 8.1, "shared-2": 5.0,
               "balanced-2": 5.0, "trades-1": 10.0, "trades-2": 5.0} | changes  # fmt: skip
    learners, ranks = {"natural": 2.0, "adversarial": 7.9}, {"sync": [0.0, 0.01], "busy": [1, 0.95]}
    each = {"learners": learners, "by_rank": ranks, "stopped_at_sync": 0.01}
    found: dict[str, Any] = {
        name: {"seconds": s, "bouts": [s] * 3, **each} for name, s in seconds.items()
    }
    return found | {"unequal": {"balanced": each}}


def test_targets_are_met_or_not() -> None:
    assert all(target.met for target in targets(figures()))
    assert allowed(figures()) == 8
    missed = {
        "shared-2": 5.3, "balanced-2": 5.5, "dedicated-2": 8.3, "trades-2": 5.5,
    }  # fmt: skip
    for name, seconds in missed.items():
        [one] = [target for target in targets(figures(**{name: seconds})) if not target.met]
        assert name in one.words
    assert Target("words", 0.5, 0.9, percent=True).row() == [
        "words",
        "≥ 90.0%",
        "50.0%",
        "–",
        "not met",
    ]
    spread = Target("words", 2.0, 1.9, turns=(1.8, 2.0, 2.1))
    assert spread.row()[2:] == ["2.000", "2.000 (1.800 … 2.100)", "undecided"]


def test_costs_are_in_the_order_of_the_method() -> None:
    learners = {"natural": 1.0, "adversarial": 2.0}
    rank = RankBout(0.0, 3.0, (), 3.0, 0, learners)
    assert list(summarise([account([rank], 1, "sync")])["learners"]) == [*learners]
    one = {"learners": learners, "seconds": 3.0}
    load = workload({"serial": one, "serial-2-shards": one}, 4, 10)
    assert list(load.learners) == [*learners]


def test_parallel_variants_have_a_baseline_of_the_same_shards() -> None:
    shards = {each.name: each.shards for each in EQUAL}
    assert {name for name in shards if name.endswith("-2")} == set(BASELINES)
    assert all(shards[name] == shards[base] for name, base in BASELINES.items())


@two_cores
def test_nothing_is_left_of_ranks_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    absent = replace(QUICK, spec=replace(QUICK.spec, arch="absent"))
    with (
        pytest.raises(RuntimeError, match="a rank of dedicated-2 has ended"),
        Crew(absent, Variant("dedicated-2", 2, 1), CORES),
    ):
        pass
    assert multiprocessing.active_children() == []
    assert list(tmp_path.glob("bench-scaling-*")) == []


@two_cores
def test_ranks_train_and_redistribute_when_they_are_told_to() -> None:
    """A real job of two ranks: none in the first iteration, one in the next two."""
    with Crew(QUICK, Variant("dedicated-2", 2, 1), CORES, steps=2) as crew:
        assert [each["items"] for each in crew.about] == [{"natural": 1}, {"adversarial": 1}]
        first, second = crew.run(1), crew.run(2)
        crew.run(6)
        tenth = crew.run(1)  # after which metrics are due, too
    assert first["sent_bytes"] == [0, 0]
    assert second["sent_bytes"] == [each["weights_bytes"] + 8 * 2 * 3 for each in crew.about]
    assert tenth["sent_bytes"] == second["sent_bytes"]
    assert first["sync"] == [0, 0]
    assert second["stopped"] > 0
    assert [set(each) for each in second["learners"]] == [{"natural"}, {"adversarial"}]
    for each in (first, second):
        for rank in range(2):
            work = sum(each["learners"][rank].values())
            assert 0 < work <= each["seconds"] - each["waiting"][rank] - each["communication"][rank]


@two_cores
@pytest.mark.slow
def test_the_command_writes_page_picture_and_figures_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench_scaling.py", "--quick", "--networks", "small_cnn", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    bench_scaling.main()
    printed = " ".join(capsys.readouterr().out.split())
    for what in ("speed-up", "waiting", "at redistributions", "left:", "not met", "the model"):
        assert what in printed
    report = json.loads((tmp_path / "scaling.json").read_text())
    names = {each.name for each in EQUAL}
    found = report["small_cnn"]
    assert names < set(found)
    assert {"device", "versions", "command", "code", "small_cnn"} == set(report)
    for each in [*(found[name] for name in names), *found["unequal"].values()]:
        assert each["seconds"] > 0
        assert 0 <= each["waiting"] + each["communication"] < 1
    assert set(found["unequal"]) == {each.name for each in UNEQUAL}
    assert set(found["predicted"]["measured"]["rows"]) == names
    # Two shards or fewer travel in fp32, in each iteration; the weights, in every second one.
    sent, more = found["dedicated-2"]["sent_bytes"], found["shared-2"]["sent_bytes"]
    assert more > 4 * sent > 0
    page = (tmp_path / "scaling.md").read_text()
    assert "| unequal balanced | 2 | 8 |" in page
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    # Complete: nothing is measured again, and nothing of it changes.
    monkeypatch.setattr(measuring, "Crew", None)
    bench_scaling.main()
    assert json.loads((tmp_path / "scaling.json").read_text()) == report


@two_cores
def test_an_interrupted_measurement_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns that all variants have taken are kept; the iterations go on being counted from there,
    so that redistributions come where they would have."""
    started: list[int] = []

    class Fake:
        about: list[Any] = []  # noqa: RUF012

        def __init__(self, network: Any, variant: Any, cores: Any, done: int, steps: Any) -> None:
            started.append(done)

        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *error: object) -> None: ...

        def run(self, iterations: int) -> dict[str, int]:
            return {"iterations": iterations}

    monkeypatch.setattr(measuring, "Crew", Fake)
    path, settings = tmp_path / "turns.json", {"device": "this one"}
    before = measuring.Measured(path, settings)
    for name, bouts in before.of(QUICK.name, "equal").items():
        bouts += [{"old": name}] * (1 if name == "trades-2" else 2)
    before.save()
    after = measuring.Measured(path, settings)
    said: list[str] = []
    measuring.measure([QUICK], after, CORES, said.append)
    assert started == [QUICK.bout] * len(EQUAL) + [0] * len(UNEQUAL)
    assert after.of(QUICK.name, "equal")["serial"] == [{"old": "serial"}, {"iterations": 2}]
    assert measuring.Measured(path, settings).bouts == after.bouts
    # Other shards than those of the turns that are kept: all turns of the stage are taken again.
    for each in after.of(QUICK.name, "equal").values():
        del each[1:]
    monkeypatch.setattr(Fake, "about", [{"items": {"natural": 1}}])
    measuring.measure([QUICK], after, CORES, said.append)
    assert after.of(QUICK.name, "equal")["serial"] == [{"iterations": 2}] * 2
    assert measuring.Measured(path, {"device": "another"}).bouts == {}
