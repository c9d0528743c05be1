"""Errors that end a command, each with its exit status."""


def in_one_line(error: BaseException) -> str:
    """The kind of an error and its message, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class CommandError(Exception):
    """A command cannot go on; the message is one line for its user."""

    status = 1


class UserError(CommandError):
    """Bad input: the message names the option or file, its value, and what would be right."""

    status = 2


class TrainingDiverged(CommandError):
    """A loss or a parameter became NaN or infinite."""


class PeerLost(CommandError):
    """Another rank of the job is gone, so this one cannot go on."""


class RankSilent(PeerLost):
    """Nothing was heard of another rank for too long; this rank may be the only one to know."""


class Interrupted(CommandError):
    """A signal stopped the command after its state was saved; the status is 128 + its number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.status = 128 + signal_number
