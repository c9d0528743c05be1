"""What is compared: the named experiments, and how each row of their tables is trained.

A name is a recipe of Zipper (``digits``, ``cifar10`` …: time and accuracy at matched clean
accuracy), a recipe with ``-table`` (many methods, as the MNIST and SVHN tables of the paper),
``-learning-rates`` (a grid of the two learners' rates) or ``-precision`` (fp32 and bf16), or
``mnist-slice``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zipper_dist.config.schedules import Schedule
from zipper_dist.errors import UserError
from zipper_dist.recipes.registry import recipe, zippers

Options = tuple[tuple[str, str], ...]
"""Options of the training command with their values."""


def options(text: str | Sequence[str]) -> Options:
    """Options as they are typed, or from the words of a command line.

    Raises:
        UserError: a value follows no option.
    """
    found: list[tuple[str, str]] = []
    for word in text.split() if isinstance(text, str) else text:
        if word.startswith("--"):
            found.append((word, ""))
        elif found and found[-1][1] == "":
            found[-1] = (found[-1][0], word)
        else:
            raise UserError(f"{word!r} follows no option of the training command")
    return tuple(found)


METHODS = {
    "zipper-serial": "Zipper (serial)",
    "zipper-parallel": "Zipper (parallel)",
    "trades": "TRADES",
    "fat": "FAT",
    "mart": "MART",
    "at": "AT",
    "natural": "NT",
}
"""The methods that a table may have, with the names that people know."""

BASELINE, SERIAL, PARALLEL = "trades", "zipper-serial", "zipper-parallel"
ZIPPER = {SERIAL, PARALLEL}
AUTOATTACK = "aa"
AVERAGED = "-ema"
"""Ending of a method whose network is a moving average over the run, as Zipper's is."""

# Published pairs (natural, adversarial) of learning rates: the paper's table for CIFAR-10.
LEARNING_RATES = (
    ("0.1", "0.01"), ("0.1", "0.1"), ("0.1", "0.001"), ("0.01", "0.01"), ("0.01", "0.1"),
)  # fmt: skip

# What one core learns of MNIST in a minute or less: a quarter of the width, and ε = 0.2, since at
# 0.3 training has hardly begun by then. Far from a full run in accuracy, but more images than
# digits have to tell methods apart.
MNIST_SLICE = options(
    """--model.width 0.25 --steps 500 --batch-size 64 --data.limit 20000
    --learners.natural.lr 0.05 --learners.adversarial.attack.eps 0.2
    --learners.adversarial.attack.steps 7 --learners.adversarial.attack.step-size 0.05
    --mix.start 260 --mix.every 20 --mix.ema 0.98 --eval.every 250 --eval.limit 500"""
)


@dataclass(frozen=True)
class Row:
    """A row of a table: a way to train.

    Attributes:
        key: its name in JSON and in paths.
        label: its name for people.
        recipe: the recipe of the training command.
        options: what differs from the recipe, the experiment's own options aside.
        devices: GPUs, or cores, that a run takes; a process for each.
        folder: name of its runs' directories, where that is not ``key``.
        averaged: whether the network of a single learner is an average, with Zipper's decay.
    """

    key: str
    label: str
    recipe: str
    options: Options = ()
    devices: int = 1
    folder: str | None = None
    averaged: bool = False


@dataclass(frozen=True)
class Images:
    """Test images: all, or at most ``limit``, which are the first or a fixed random choice."""

    limit: int | None = None
    first: bool = False

    def at_most(self, limit: int) -> Images:
        """A random choice, which is part of that for any larger limit."""
        return Images(limit if self.limit is None else min(limit, self.limit))


@dataclass(frozen=True)
class Attacks:
    """Attacks on the same images."""

    names: tuple[str, ...]
    images: Images = Images()


@dataclass(frozen=True)
class Sweep:
    """The trade-off as curves: TRADES for several β, Zipper for several last values of γ, to which
    its own is added. After it, ``tuning_runs`` more values of β are tried to bring the clean
    accuracy of TRADES to Zipper's."""

    betas: tuple[float, ...]
    gammas: tuple[float, ...]
    tuning_runs: int = 2
    images: Images = Images()


@dataclass(frozen=True)
class Experiment:
    """A comparison, from which everything that is run follows.

    Attributes:
        times: whether it is about time, too. Then the runs have the machine to themselves, and the
            cost of each learner is measured.
    """

    name: str
    title: str
    recipe: str
    rows: tuple[Row, ...]
    attacks: tuple[Attacks, ...]
    options: Options = ()
    sweep: Sweep | None = None
    times: bool = False

    def options_of(self, row: Row) -> Options:
        """The options of a row's training command: those of the experiment that its recipe has a
        use for, then its own. A single learner is not mixed, and has no other's options."""
        learners = recipe(row.recipe).learners
        usable = [("--mix.ema", f"{recipe(self.recipe).mix.ema:g}")] if row.averaged else []
        for option, value in self.options:
            section, _, rest = option.removeprefix("--").partition(".")
            if section == "mix" and len(learners) == 1 and not (row.averaged and rest == "ema"):
                continue
            if section == "learners" and rest.partition(".")[0] not in learners:
                continue
            usable.append((option, value))
        return (*usable, *row.options)


def method_row(method: str, base: str) -> Row:
    """The row of a method on recipe ``base``.

    Raises:
        UserError: there is no such method.
    """
    name = method.removesuffix(AVERAGED)
    averaged, zipper = name != method, name in ZIPPER
    if name not in METHODS or (zipper and averaged):
        raise UserError(
            f"--methods {method}: choose from {', '.join(METHODS)}; all but Zipper also with "
            f"{AVERAGED}"
        )
    return Row(
        method,
        METHODS[name] + (" with EMA" if averaged else ""),
        base if zipper else f"{base}-{name}",
        devices=2 if name == PARALLEL else 1,
        averaged=averaged,
    )


def trades_row(base: str, beta: float) -> Row:
    """TRADES with a weight β of its robustness term."""
    return with_beta(Row(f"trades-beta{beta:g}", METHODS[BASELINE], f"{base}-{BASELINE}"), beta)


def with_beta(row: Row, beta: float) -> Row:
    """A row of TRADES with another β, in a directory of its own."""
    option = ("--learners.adversarial.beta", f"{beta:g}")
    label = row.label.replace(METHODS[BASELINE], f"{METHODS[BASELINE]}, β = {beta:g}", 1)
    folder = f"{row.key.partition('-beta')[0]}-beta{beta:g}"
    return replace(row, label=label, options=(*row.options, option), folder=folder)


def zipper_row(base: str, own: Schedule, gamma: float) -> Row:
    """Zipper, serial, with ``gamma`` as the last value of its schedule ``own`` of γ."""
    *others, (progress, last) = own.points
    changed = ("--mix.gamma", str(Schedule((*others, (progress, gamma)))))
    label = f"Zipper, γ → {gamma:g}"
    return Row(f"zipper-gamma{gamma:g}", label, base, () if gamma == last else (changed,))


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        UserError: there is none.
    """
    if name == "mnist-slice":
        found = _timed(name, "A slice of MNIST, ε = 0.2", "mnist")
        attacks = (replace(found.attacks[0], images=Images(1000)),)
        sweep = Sweep((1.0, 4.0), (0.2,), images=Images(1000))
        return replace(found, options=MNIST_SLICE, attacks=attacks, sweep=sweep)
    endings = {"-table": _table, "-learning-rates": _learning_rates, "-precision": _precision}
    for ending, make in endings.items():
        base = name.removesuffix(ending)
        if name.endswith(ending) and base in zippers():
            return make(name, base)
    if name in zippers():
        return _timed(name, f"{name}: training time and accuracy", name)
    raise UserError(
        f"unknown experiment {name!r}: give a recipe ({', '.join(zippers())}), one with "
        f"{', '.join(endings)} after it, or mnist-slice"
    )


def _timed(name: str, title: str, base: str) -> Experiment:
    """Time and accuracy of TRADES and Zipper, serial and parallel: the published comparison."""
    rows = tuple(method_row(method, base) for method in (BASELINE, SERIAL, PARALLEL))
    attacks = (Attacks(("clean", "pgd-100", "apgd-ce")),)
    sweep = Sweep((1.0, 3.0, 9.0), (0.2, 0.8))
    return Experiment(name, title, base, rows, attacks, sweep=sweep, times=True)


def _table(name: str, base: str) -> Experiment:
    """Many methods side by side, under AutoAttack too: on the first 1,000 test images, as usual,
    where they are not sorted by class."""
    methods = (SERIAL, BASELINE, "fat", "at", "natural")
    rows = tuple(method_row(method, base) for method in methods)
    few = Images(1000, first=recipe(base).data.source != "folder")
    attacks = (Attacks(("clean", "pgd-20", "apgd-ce")), Attacks((AUTOATTACK,), few))
    return Experiment(name, f"{base}: methods side by side", base, rows, attacks)


def _learning_rates(name: str, base: str) -> Experiment:
    """Zipper with pairs of learning rates for its two learners."""
    rows = []
    for natural, adversarial in LEARNING_RATES:
        key, label = f"n{natural}-a{adversarial}", f"N {natural}, A {adversarial}"
        rates = f"--learners.natural.lr {natural} --learners.adversarial.lr {adversarial}"
        rows.append(Row(key, label, base, options(rates)))
    title = f"{base}: a learning rate for each learner (N natural, A adversarial)"
    return Experiment(name, title, base, tuple(rows), (Attacks(("clean", AUTOATTACK)),))


def _precision(name: str, base: str) -> Experiment:
    """What training in bf16 costs in accuracy: Zipper in both precisions; of MNIST the slice."""
    rows = tuple(Row(each, each, base, options(f"--precision {each}")) for each in ("fp32", "bf16"))
    attacks = (Attacks(("clean", "pgd-20"), Images(2000)),)
    common = (*options("--compile off"), *(MNIST_SLICE if base == "mnist" else ()))
    return Experiment(name, f"{base}: training in fp32 and in bf16", base, rows, attacks, common)


def with_methods(found: Experiment, methods: Sequence[str]) -> Experiment:
    """``found`` with other rows.

    Raises:
        UserError: an unknown method, or an experiment that compares something else.
    """
    if found.name.endswith(("-learning-rates", "-precision")):
        raise UserError(f"--methods: {found.name} does not compare methods")
    return replace(found, rows=tuple(method_row(m, found.recipe) for m in dict.fromkeys(methods)))


def limited(found: Experiment, limit: int) -> Experiment:
    """``found`` with all attacks on at most ``limit`` images."""
    names: dict[Images, tuple[str, ...]] = {}
    for group in found.attacks:
        images = group.images.at_most(limit)
        names[images] = (*names.get(images, ()), *group.names)
    sweep = found.sweep and replace(found.sweep, images=found.sweep.images.at_most(limit))
    attacks = tuple(Attacks(each, images) for images, each in names.items())
    return replace(found, attacks=attacks, sweep=sweep)
