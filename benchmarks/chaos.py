"""Whether a training run survives what happens to it: `make chaos RUNS=50`.

Each run is killed, frozen, started twice or robbed of its files at random moments, continued by
the same command, and must end with the weights and metrics of a run that was left alone, bit for
bit; nothing may hang, outlive its launcher or end in a traceback. Attacks take turns; times,
ranks, placements and files are drawn from the seed and the number of the run. Linux only.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from code_version import version_of_code
from faults.attacks import ATTACKS, Attack, Trial
from faults.job import Ending, Job, training
from faults.outcome import differences
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.config.command_line import parse_options, run_command
from zipper_dist.errors import CommandError, UserError
from zipper_dist.metrics.console import make_console

OUT = Path(os.path.relpath(Path(__file__).parent / "out"))
TIMEOUT = 20
"""--timeout of the runs [s]."""
HANGS = TIMEOUT + 100.0
"""A job that takes so much longer than an undisturbed one hangs [s]."""
TRAINING = f"""digits --device cpu --threads 1 --precision fp32 --compile off --metrics jsonl
    --model.width 0.125 --data.limit 400 --data.validation 40 --batch-size 16 --steps 240
    --mix.start 80 --mix.every 40 --mix.gamma 0:0.3,1:0.7 --mix.ema 0.9 --eval.every 30
    --eval.limit 40 --eval.attack-steps 3 --log-every 7 --learners.adversarial.attack.steps 2
    --placement.shards 2
    --timeout {TIMEOUT}""".split()
"""Some seconds of training with all that can be lost: redistributions, evaluations, BatchNorm; two
shards, so that two ranks may share the learners."""


@dataclass(frozen=True)
class ChaosOptions:
    """Attack training runs, and see whether they end as if nothing had happened.

    The same command continues where it was interrupted, as long as the code is the same.
    """

    runs: int = 50
    """Runs that are attacked."""
    seed: int = 0
    """Seed of all that is random about the attacks."""
    only: str = ""
    """Only attacks whose name contains this."""
    out: Path = OUT
    """Directory for chaos.json, and for the runs in chaos/."""


class Lost(CommandError):
    """A run did not survive."""


def undisturbed(directory: Path, seed: int) -> float:
    """A run of two ranks that is left alone; the seconds that it takes. Made once."""
    took = directory / "seconds"
    if not took.exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        began = time.monotonic()
        options = [*TRAINING, "--seed", str(seed), "--run-dir", str(directory / "run")]
        with Job(training(options, ranks=2), directory / "log.txt") as job:
            ending = job.wait(600)
        if ending != Ending(0):
            raise CommandError(f"the undisturbed run failed: see {directory / 'log.txt'}")
        took.write_text(str(time.monotonic() - began))
    return float(took.read_text())


def attacked(attack: Attack, trial: Trial, expected: Path) -> dict[str, Any]:
    """Carry out the attack: what became of the run."""
    endings = attack.carry_out(trial)
    found = list(trial.complaints)
    if endings[-1].status != 0:
        found.append(f"at last it ended with status {endings[-1].status}")
    elif (trial.run / "summary.json").exists():
        found += differences(trial.run, expected)
    else:
        found.append("there is no summary.json")
    traceback = "Traceback" in trial.log.read_text(errors="replace")
    return {
        "attack": attack.name,
        "struck": trial.struck,
        "identical": not found,
        "hung": any(ending.status is None for ending in endings),
        "orphans": any(ending.orphans for ending in endings),
        "traceback": traceback,
        "statuses": [ending.status for ending in endings],
        "differences": found,
    }


def survived(result: dict[str, Any]) -> bool:
    """Whether nothing was lost, and nothing left behind."""
    return result["identical"] and not any(result[k] for k in ("hung", "orphans", "traceback"))


def results(options: ChaosOptions, home: Path, console: Console) -> Iterator[dict[str, Any]]:
    """What became of each run; those that are there already are not repeated."""
    attacks = [attack for attack in ATTACKS if options.only in attack.name]
    if not attacks:
        names = ", ".join(attack.name for attack in ATTACKS)
        raise UserError(f"--only {options.only}: no attack is called so; there are: {names}")
    console.print("the runs that are left alone …")
    seconds = undisturbed(home / "undisturbed", 0)
    undisturbed(home / "other", 1)
    with Progress(console=console) as progress:
        for number in progress.track(range(options.runs), description="attacking"):
            attack = attacks[number % len(attacks)]
            where = home / f"{options.seed}-{attack.name.replace(' ', '-')}-{number:04d}"
            record = where.with_suffix(".json")
            if not record.exists():
                shutil.rmtree(where, ignore_errors=True)
                where.mkdir()
                run = where / "run"
                trial = Trial(
                    [*TRAINING, "--run-dir", str(run)], run, home / "other" / "run",
                    where / "log.txt", seconds, seconds + HANGS,
                    Random(f"{options.seed} {number}"),
                )  # fmt: skip
                write_json(record, attacked(attack, trial, home / "undisturbed" / "run"))
            result = json.loads(record.read_text())
            if survived(result):
                shutil.rmtree(where, ignore_errors=True)
            else:
                console.print(f"{attack.name}: lost, see {record}", highlight=False)
            yield result


def chaos(options: ChaosOptions, console: Console) -> None:
    """Attack, print the table and write chaos.json; raises Lost if a run did not survive."""
    if options.runs < 1:
        raise UserError(f"--runs {options.runs}: give 1 or more")
    home, code = options.out / "chaos", version_of_code("faults", torch.__version__, TRAINING)
    marker = home / "code"
    if home.exists() and not marker.exists():
        raise UserError(f"--out {options.out}: {home} is not of this tool; give another directory")
    if not marker.exists() or marker.read_text() != code:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        marker.write_text(code)
    found = list(results(options, home, console))
    tried, kept = (
        Counter(result["attack"] for result in found if keep(result))
        for keep in (lambda result: True, survived)
    )
    struck: Counter[str] = Counter()
    for result in found:
        struck[result["attack"]] += result["struck"]
    table = Table("attack", "tried", "times struck", "survived")
    for name in tried:
        table.add_row(name, str(tried[name]), str(struck[name]), str(kept[name]))
    table.add_section()
    table.add_row("all", str(len(found)), str(struck.total()), str(kept.total()))
    console.print(table)
    write_json(
        options.out / "chaos.json",
        {
            "tried": len(found),
            **{key: sum(r[key] for r in found) for key in ("identical", "hung", "orphans")},
            "tracebacks": sum(result["traceback"] for result in found),
            "by_attack": {
                name: {"tried": tried[name], "struck": struck[name], "survived": kept[name]}
                for name in tried
            },
            "command": ["python", "benchmarks/chaos.py", *sys.argv[1:]],
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
            "processor": platform.processor() or platform.machine(),
        },
    )
    if kept.total() < len(found):
        raise Lost(f"{len(found) - kept.total()} of {len(found)} runs were lost: see {home}")


def main() -> None:
    """Entry point of the tool."""
    run_command(lambda: chaos(parse_options(ChaosOptions, sys.argv[1:], "chaos"), make_console()))


if __name__ == "__main__":
    main()
