"""The ways a command ends early, each with its own exit status."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot go on; the message is one clear line for the person who started it."""

    status = 1


class UserError(CommandError):
    """Bad input: the message names the option or file, its value, and what would be right."""

    status = 2


class TrainingDiverged(CommandError):
    """A loss or a parameter became NaN or infinite."""


class PeerLost(CommandError):
    """Another rank of the job is gone, so this one cannot go on."""


class Interrupted(CommandError):
    """A signal asked the command to stop; the state was saved.

    Its exit status is 128 + the signal's number, as shells report it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.status = 128 + signal_number
