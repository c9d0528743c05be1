"""What a rank that lost another makes of a signal: where it waits it stops, and so saves its state;
in the middle of an iteration it must not, as its state is half done."""

from __future__ import annotations

import pytest

from zipper_dist.distributed import communication
from zipper_dist.distributed.communication import Overlap, Pending, World
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.stopping import Stop
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.errors import Interrupted, PeerLost

TERM = 15


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(communication, "SIGNAL_SECONDS", 0.05)


@pytest.fixture
def told() -> tuple[World, Signals, Overlap]:
    """A rank that a signal has told to stop."""
    signals = Signals()
    world = World(plan(Machine.detect({}), "cpu", 1), signals=signals)
    signals.number = TERM
    return world, signals, Overlap(Stop(world, signals))


def broken(world: World) -> Pending:
    """An all-reduce whose other rank is gone."""

    def result() -> None:
        with world._contact("another rank"):
            raise RuntimeError("Connection closed by peer\nand where in the source that was")

    return Pending(lambda: True, result)


def test_within_an_iteration_a_rank_is_lost(told: tuple[World, Signals, Overlap]) -> None:
    world, _, wait = told
    pending = broken(world)
    wait.idly(pending.done)
    with pytest.raises(PeerLost) as raised:
        pending.result()
    assert str(raised.value) == "lost contact with another rank: Connection closed by peer"


def test_where_a_rank_waits_a_signal_stops_it(told: tuple[World, Signals, Overlap]) -> None:
    world, signals, wait = told
    with pytest.raises(Interrupted):
        wait(broken(world))
    signals.number = None
    with pytest.raises(PeerLost):
        wait(broken(world))


def test_within_an_iteration_a_rank_looks_less_and_less_often(
    told: tuple[World, Signals, Overlap], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, wait = told
    slept: list[float] = []
    monkeypatch.setattr(wait, "_sleep", slept.append)
    wait.idly(lambda: len(slept) == 8)
    assert slept[:2] == [communication.SHORTEST_SLEEP, 2 * communication.SHORTEST_SLEEP]
    assert slept[-3:] == [communication.LONGEST_IDLE_SLEEP] * 3
