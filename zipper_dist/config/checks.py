"""Options out of range, found before any long work starts."""

from collections.abc import Iterator
from pathlib import Path

from zipper_dist.config import ranges
from zipper_dist.config.schema import TrainConfig
from zipper_dist.config.threat import problems_of
from zipper_dist.errors import UserError


def _threats(config: TrainConfig) -> Iterator[str]:
    options, threats = config.eval, config.threats()
    if options.threats and (options.norm is not None or options.eps is not None):
        yield "--eval.threats: names norms and radii itself; leave out --eval.norm and --eval.eps"
    elif options.threats:
        yield from problems_of(threats, "--eval.threats")
    elif options.eps is not None:
        yield from threats[0].problems(f"--eval.eps {options.eps}")
    elif not threats and any(learner.threat() for learner in config.learners.values()):
        yield f"--eval.norm {options.norm}: give a radius in that norm, too (--eval.eps)"
    elif not threats:
        yield "--eval.eps: give a radius, because no learner trains against an attack that sets it"


def _guides(config: TrainConfig, name: str) -> Iterator[str]:
    """What is wrong with what guides a learner."""
    guided, others = config.learners[name].guided_by(), [n for n in config.learners if n != name]
    if guided is None:
        return
    guide, _ = guided
    if guide not in others and not Path(guide).expanduser().is_file():
        learners = f"another learner ({', '.join(others)}) or " if others else ""
        yield f"--learners.{name}.guide {guide}: give {learners}a file of a network's weights"


def problems(config: TrainConfig) -> Iterator[str]:
    """What is wrong with ``config``: the option, its value and what would be right, a line each."""
    for option, value in (
        ("--epochs", config.epochs),
        ("--steps", config.steps),
        ("--batch-size", config.batch_size),
        ("--log-every", config.log_every),
    ):
        yield from ranges.at_least_one(option, value)
    yield from ranges.number("--timeout", config.timeout, 1, 1e7)
    yield from ranges.at_least_one("--threads", config.threads, ranges.MOST_THREADS)
    yield from ranges.number("--seed", config.seed, -(2**63), 2**63 - 1)
    yield from config.data.problems()
    yield from config.model.problems()
    if not config.learners:
        yield "learners: give one or more"
    for name in config.learners:
        if not name.isidentifier() or name in ("global", "best"):
            yield f"learners.{name}: give letters, digits and _, and not global or best"
    yield from config.mix.problems(list(config.learners))
    yield from config.eval.problems()
    yield from config.placement.problems(list(config.learners))
    yield from _threats(config)
    for name, learner in config.learners.items():
        yield from learner.problems(f"--learners.{name}")
        if config.schedules_by == "epoch" and learner.lr > 0 and learner.schedule(1.0) == 0:
            yield (
                f"--schedules-by epoch: --learners.{name}.schedule {learner.schedule} ends at 0, "
                "so that the last epoch would train nothing: give iteration, or another schedule"
            )
        yield from _guides(config, name)


def validate(config: TrainConfig) -> None:
    """Raise UserError with everything that is out of range in ``config``, in one line."""
    if found := list(problems(config)):
        raise UserError("; ".join(found))
