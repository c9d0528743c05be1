"""A signal and an error at the same time."""

from __future__ import annotations

import os
import signal

import pytest

from zipper_dist.distributed.signals import Signals
from zipper_dist.errors import Interrupted, TrainingDiverged, UserError


def fail(signals: Signals, error: Exception, told: bool) -> None:
    """Raise ``error`` where signals are caught, after one has come if ``told``."""
    with signals.installed():
        if told:
            os.kill(os.getpid(), signal.SIGTERM)
        raise error


def test_a_rank_that_is_told_to_stop_says_nothing_of_bad_input() -> None:
    with pytest.raises(Interrupted):
        fail(Signals(), UserError("which all ranks find, and the first one tells of"), told=True)


def test_otherwise_an_error_is_told() -> None:
    with pytest.raises(UserError):
        fail(Signals(), UserError("of one's own"), told=False)
    with pytest.raises(TrainingDiverged):
        fail(Signals(), TrainingDiverged("which this rank alone may have found"), told=True)
