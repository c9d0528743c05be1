"""What the commands have in common: reading options, and ending in an orderly way."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import tyro

from zipper_dist.config.schema import TrainConfig
from zipper_dist.errors import CommandError, Interrupted, TrainingDiverged
from zipper_dist.recipes.registry import CHOICES, recipe

# Long enough for rank 0 to say the same, and for torchrun to stop this rank thereupon.
OTHER_RANKS_PATIENCE = 10.0


def is_first_rank() -> bool:
    """Whether this process speaks for the job."""
    return os.environ.get("RANK", "0") == "0"


def parse_train_options(arguments: Sequence[str]) -> TrainConfig:
    """The options of the training command: an optional recipe first, then ``--options``.

    Raises:
        UserError: unknown recipe.
        SystemExit: unknown options or values that cannot be read (status 2, after a message), or
            ``--help`` (status 0).
    """
    arguments = list(arguments)
    name = "digits"
    if arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
    default = recipe(name)
    description = (
        f"{TrainConfig.__doc__}\n\nThese are the defaults of the recipe {name!r}. Give another "
        f"recipe as the first argument to start from its defaults: {CHOICES}."
    )
    with _only_first_rank_talks():
        given = tyro.cli(
            TrainConfig,
            default=default,
            args=arguments,
            prog="zipper_dist.train [RECIPE]",
            description=description,
        )
    return given.resolved()


Options = TypeVar("Options")


def parse_options(kind: type[Options], arguments: Sequence[str], prog: str) -> Options:
    """The options of a command: a dataclass, whose docstring describes the command in ``--help``.

    Raises:
        SystemExit: as :func:`parse_train_options`.
    """
    with _only_first_rank_talks():
        description = inspect.cleandoc(kind.__doc__ or "")
        return tyro.cli(kind, args=list(arguments), prog=prog, description=description)


@contextlib.contextmanager
def _only_first_rank_talks() -> Iterator[None]:
    if is_first_rank():
        yield
        return
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        try:
            yield
        except SystemExit as end:
            if end.code:
                time.sleep(OTHER_RANKS_PATIENCE)
            raise


def run_command(command: Callable[[], object]) -> None:
    """Run ``command``; turn the ways it may end early into one line and an exit status."""
    try:
        command()
    except Interrupted as interruption:
        sys.exit(interruption.status)
    except KeyboardInterrupt:
        sys.exit(130)
    except CommandError as error:
        if not (is_first_rank() or isinstance(error, TrainingDiverged)):
            # All ranks find the same mistake, and one line about it is enough. A rank that found
            # it alone is still here after a while, and says so.
            time.sleep(OTHER_RANKS_PATIENCE)
        print(f"zipper: error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.status)
