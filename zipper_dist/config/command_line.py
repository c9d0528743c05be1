"""What the commands have in common: reading options, and ending in an orderly way."""

import contextlib
import inspect
import io
import itertools
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import tyro

import zipper_dist
from zipper_dist.config.schedules import OPTION_TYPES
from zipper_dist.errors import (
    CommandError,
    Failure,
    Interrupted,
    RankSilent,
    TrainingDiverged,
    UserError,
    failure_of,
    in_one_line,
    log_failure,
)
from zipper_dist.starting import output_is_closed

OTHER_RANKS_PATIENCE = 10.0 if "TORCHELASTIC_RUN_ID" in os.environ else 4.0
"""How long other ranks wait with an error, so that rank 0 reports it and ends the job [seconds].
Without torchrun less than GRACE, after which the heartbeat reports that rank 0 is gone."""

ISSUES = "https://github.com/zipper-dist/zipper_dist/issues"

Options = TypeVar("Options")


def is_first_rank() -> bool:
    """Whether this process speaks for the job."""
    return os.environ.get("RANK", "0") == "0"


def parse_options(
    kind: type[Options],
    arguments: Sequence[str],
    prog: str,
    default: Options | None = None,
    description: str = "",
) -> Options:
    """The options, a ``kind``, of the command ``prog`` (as in ``python -m``) from its words.

    ``default`` and ``description`` stand in place of the defaults and the docstring of ``kind``.

    Raises:
        UserError: a value is empty.
        SystemExit: a word cannot be read (status 2, after a message), or the words ask for
            ``--help``, ``--version`` or a completion script (status 0).
    """
    _refuse_empty(arguments)
    with _only_first_rank_prints():
        if "--version" in arguments:
            print(f"zipper_dist {zipper_dist.__version__}")
            raise SystemExit(0)
        completing = any(word.startswith("--tyro-") for word in arguments)
        if completing:
            prog = prog.split()[0].replace("zipper_dist.", "zipper-")
        with _short_descriptions() if completing else contextlib.nullcontext():
            return tyro.cli(
                kind,
                args=list(arguments),
                prog=prog,
                description=description or inspect.cleandoc(kind.__doc__ or ""),
                default=tyro.MISSING_NONPROP if default is None else default,
                registry=OPTION_TYPES,
            )


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise UserError for an empty value, which would make a path the working directory."""
    for before, word in itertools.pairwise(["", *arguments]):
        if word == "" or (word.startswith("--") and word.endswith("=")):
            option = before if word == "" else word.removesuffix("=")
            raise UserError(f"{option}: the value is empty, as that of a shell's unset variable is")


@contextlib.contextmanager
def _short_descriptions() -> Iterator[None]:
    """Make a completion script's descriptions one line each; a shell takes others for options."""
    script = io.StringIO()
    try:
        with contextlib.redirect_stdout(script):
            yield
    finally:
        specification = re.compile("^COMPLETION_SPEC = .*$", re.M)
        print(specification.sub(lambda s: s[0].replace(r"\n", " "), script.getvalue()), end="")


@contextlib.contextmanager
def _only_first_rank_prints() -> Iterator[None]:
    if is_first_rank():
        yield
        return
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        try:
            yield
        except SystemExit as end:
            if end.code:
                time.sleep(OTHER_RANKS_PATIENCE)
            raise


@contextlib.contextmanager
def logged(directory: Path) -> Iterator[None]:
    """Turn an unexpected error into a :class:`Failure`, its traceback in the directory's log, or on
    stderr where that is impossible."""
    try:
        yield
    except (CommandError, BrokenPipeError):
        raise
    except Exception as error:
        raise _failure(error, log_failure(directory, error)) from error


def _failure(error: Exception, log: Path | None) -> Failure:
    if known := failure_of(error):
        return known
    if log is None:
        traceback.print_exception(error)
    return Failure(
        f"unexpected {in_one_line(error)}; what is saved is kept, and the same command continues "
        f"from it; the traceback is {'above' if log is None else f'in {log}'}; if this happens "
        f"again, please report it at {ISSUES}"
    )


def run_command(command: Callable[[], object]) -> None:
    """Run ``command``; turn the ways it may end early into one line and an exit status."""
    output_is_closed()
    try:
        try:
            command()
        finally:
            _flush()
    except BrokenPipeError:
        sys.exit(128 + signal.SIGPIPE)
    except Interrupted as interruption:
        sys.exit(interruption.status)
    except KeyboardInterrupt:
        sys.exit(130)
    except CommandError as error:
        _end(error)
    except Exception as error:
        _end(_failure(error, None))


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # The reader, such as head, has ended, or its disk is full: nothing is flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _end(error: CommandError) -> NoReturn:
    """Print the message, and exit with the status."""
    message = " ".join(str(error).splitlines())
    if not is_first_rank():
        if isinstance(error, Failure):
            message = f"rank {os.environ['RANK']}: {message}"
        elif not isinstance(error, TrainingDiverged | RankSilent):
            # All ranks find most errors, and rank 0 reports them and ends the job meanwhile.
            time.sleep(OTHER_RANKS_PATIENCE)
    print(f"zipper: error: {message}", file=sys.stderr, flush=True)
    _tell_torchrun(error)
    sys.exit(error.status)


def _tell_torchrun(error: CommandError) -> None:
    """Write down the error where torchrun, if it started this process, looks for it."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        about = {"message": str(error), "timestamp": int(time.time()), "final": error.final}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(about))
