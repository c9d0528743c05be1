"""Ranks that keep step stop after the same iteration, whichever gets the signal, and when."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipper_dist.distributed import stopping
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.stopping import Stop
from zipper_dist.errors import Interrupted, PeerLost

TERM = 15


class Board(World):
    """A rank of a job that only posts; ``board`` is what all have posted."""

    def __init__(self, rank: int, board: dict[tuple[str, int], Any]) -> None:
        self.rank = rank
        self._board = board

    def post(self, topic: str, value: Any) -> None:
        self._board[topic, self.rank] = value

    def posted(self, topic: str, ranks: Iterable[int]) -> dict[int, Any]:
        return {rank: self._board[topic, rank] for rank in ranks if (topic, rank) in self._board}


def ranks(count: int) -> list[tuple[Stop, Signals]]:
    board: dict[tuple[str, int], Any] = {}
    found = []
    for rank in range(count):
        signals = Signals()
        stop = Stop(Board(rank, board), signals)
        stop.companions = range(count)
        found.append((stop, signals))
    return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "LOOK_SECONDS", 0.0)


def test_a_rank_that_keeps_step_with_none_stops_at_once() -> None:
    ((stop, signals),) = ranks(1)
    stop.begin(7)
    assert stop.listen()
    stop.check()
    signals.number = TERM
    assert stop.listen()
    with pytest.raises(Interrupted) as raised:
        stop.check()
    assert raised.value.status == 128 + TERM


def test_a_lost_rank_is_told_in_the_middle_of_an_iteration_and_a_signal_is_not() -> None:
    (stop, signals), _ = ranks(2)
    signals.number = TERM
    stop.listen()
    signals.error = PeerLost("rank 1 is lost")
    with pytest.raises(PeerLost):
        stop.listen()


@settings(deadline=None)
@given(st.integers(2, 4), st.integers(0, 60), st.integers(0, 10**6))
def test_all_stop_after_the_same_iteration(count: int, when: int, seed: int) -> None:
    """Ranks in random turns: each iteration ends only once all have begun it, as its sums need
    all; one of them gets a signal at some moment."""
    random, found = Random(seed), ranks(count)
    at, inside, stopped = [0] * count, [False] * count, [0] * count
    for turn in range(5000):
        if turn == when:
            found[random.randrange(count)][1].number = TERM
        rank = random.randrange(count)
        stop = found[rank][0]
        if stopped[rank]:
            continue
        if not inside[rank]:
            at[rank] += 1
            stop.begin(at[rank])
            inside[rank] = True
        elif all(other >= at[rank] for other in at):
            if not stop.listen():
                continue
            try:
                stop.check()
                inside[rank] = False
            except Interrupted:
                stopped[rank] = at[rank]
        else:
            stop.listen()  # waits within the iteration
        if all(stopped):
            break
    assert all(stopped), "ranks wait for each other"
    assert len(set(stopped)) == 1
