"""The attacks on a training run: signals while it runs, and damage to its files in between."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from faults.job import Ending, Job, training


@dataclass
class Trial:
    """One run that is attacked.

    Attributes:
        options: of the training command, the run directory among them.
        run: the run directory.
        other: the directory of a complete run of another seed.
        seconds: how long an undisturbed run takes.
        limit: a job that takes longer hangs [s].
        complaints: what went otherwise than it should.
        struck: how often the attack hit something.
    """

    options: Sequence[str]
    run: Path
    other: Path
    log: Path
    seconds: float
    limit: float
    random: Random
    complaints: list[str] = field(default_factory=list)
    struck: int = 0

    def start(self, ranks: int, restarts: int = 0) -> Job:
        """Start the training command, or continue the run with it, under some placement."""
        placement = ["--placement.mode", self.random.choice(("dedicated", "shared"))]
        return Job(training([*self.options, *placement], ranks, restarts), self.log)

    def pause(self, job: Job) -> None:
        """Wait until a random moment of the run, or the end of the job."""
        until = time.monotonic() + self.random.uniform(0.02, 0.9) * self.seconds
        while time.monotonic() < until and not job.ended:
            time.sleep(0.02)


Strike = Callable[[Job, Trial], bool]
"""Does something to a job; False if there was nothing there to do it to."""
Damage = Callable[[Trial], bool]


@dataclass(frozen=True)
class Attack:
    """What is done to a run before it is left alone to end.

    Attributes:
        ranks: it is started on so many; 0: on one or two, at random, and so on each continuation.
        strike: what happens at a random moment of it; None: it runs to its end.
        strikes: at most so many of them in one start of the command.
        damage: what happens to its files afterwards.
        statuses: those that a job which was struck may end with, as Python gives them; any if none.
    """

    name: str
    ranks: int = 0
    strike: Strike | None = None
    strikes: int = 1
    restarts: int = 0
    damage: Damage | None = None
    statuses: tuple[int, ...] = ()

    def carry_out(self, trial: Trial) -> list[Ending]:
        """Attack once or twice, then let the run end: how each of the jobs ended."""
        endings = []
        for _ in range(trial.random.randint(1, 2)):
            struck = False
            with trial.start(self._ranks(trial), self.restarts) as job:
                for _ in range(trial.random.randint(1, self.strikes)):
                    if self.strike is not None:
                        trial.pause(job)
                        struck |= self.strike(job, trial)
                ending = job.wait(trial.limit)
            endings.append(ending)
            if struck and self.statuses and ending.status not in self.statuses:
                wanted = " or ".join(map(str, self.statuses))
                trial.complaints.append(f"a job ended with status {ending.status}, not {wanted}")
            if self.damage is not None:
                struck |= self.damage(trial)
            trial.struck += struck
        with trial.start(self._ranks(trial)) as job:
            return [*endings, job.wait(trial.limit)]

    def _ranks(self, trial: Trial) -> int:
        return self.ranks or trial.random.choice((1, 2))


def to_rank(number: int) -> Strike:
    """A signal to one rank."""

    def strike(job: Job, trial: Trial) -> bool:
        return job.signal_rank(trial.random.randrange(2), number)

    return strike


def to_started(number: int) -> Strike:
    """A signal to the process that was started: the launcher, or the one process of training."""

    def strike(job: Job, trial: Trial) -> bool:
        job.signal(number)
        return not job.ended

    return strike


def power_cut(job: Job, trial: Trial) -> bool:
    """All processes end at once."""
    running = not job.ended
    job.kill()
    return running


def second_job(job: Job, trial: Trial) -> bool:
    """The same command is started a second time while the first one runs; it must be refused. The
    first one stands still meanwhile, as it may not take as long as a refusal."""
    job.signal_all(signal.SIGSTOP)
    begun, complete = ((trial.run / name).exists() for name in ("config.json", "summary.json"))
    if job.ended or complete or not begun:
        job.signal_all(signal.SIGCONT)
        return False
    with trial.start(trial.random.choice((1, 2))) as second:
        status = second.wait(trial.limit).status
    job.signal_all(signal.SIGCONT)
    if status != USER_ERROR:
        trial.complaints.append(f"the second job ended with status {status}, not {USER_ERROR}")
    return True


def checkpoint_of(trial: Trial) -> Path | None:
    """One of the run's checkpoints, at random; None if there is none."""
    found = sorted((trial.run / "checkpoints").glob("*.ckpt"))
    return trial.random.choice(found) if found else None


def checkpoints_of_a_learner(trial: Trial) -> list[Path]:
    """All checkpoints of one learner."""
    learner = trial.random.choice(("natural", "adversarial"))
    return sorted((trial.run / "checkpoints").glob(f"{learner}-*.ckpt"))


def flip_a_bit(trial: Trial) -> bool:
    """Flip a bit of a checkpoint."""
    if path := checkpoint_of(trial):
        content = bytearray(path.read_bytes())
        content[trial.random.randrange(len(content))] ^= 1 << trial.random.randrange(8)
        path.write_bytes(content)
    return path is not None


def truncate(trial: Trial) -> bool:
    """Cut a checkpoint short."""
    if path := checkpoint_of(trial):
        content = path.read_bytes()
        path.write_bytes(content[: trial.random.randrange(len(content))])
    return path is not None


def delete_one(trial: Trial) -> bool:
    """Delete a checkpoint."""
    if path := checkpoint_of(trial):
        path.unlink()
    return path is not None


def delete_a_learners(trial: Trial) -> bool:
    """Delete all checkpoints of one learner."""
    for path in (found := checkpoints_of_a_learner(trial)):
        path.unlink()
    return bool(found)


def damage_a_learners(trial: Trial) -> bool:
    """Cut all checkpoints of one learner short."""
    for path in (found := checkpoints_of_a_learner(trial)):
        path.write_bytes(path.read_bytes()[:1000])
    return bool(found)


def copy_foreign(trial: Trial) -> bool:
    """Put the checkpoints of a run of another seed beside those of this one."""
    if there := (trial.run / "checkpoints").is_dir():
        for path in (trial.other / "checkpoints").glob("*.ckpt"):
            shutil.copy(path, trial.run / "checkpoints")
    return there


def spoil_metrics(trial: Trial) -> bool:
    """Append what is no record to metrics.jsonl."""
    if there := (path := trial.run / "metrics.jsonl").exists():
        spoil = trial.random.choice((b"{}\n", b"[]\n3\n", b'{"step": 7, "lear', b"\xff\x00\n"))
        path.write_bytes(path.read_bytes() + spoil)
    return there


def lose_weights(trial: Trial) -> bool:
    """Delete a weights file, or cut it short."""
    found = sorted(trial.run.glob("*.safetensors"))
    if found:
        path = trial.random.choice(found)
        if trial.random.random() < 0.5:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-10])
    return bool(found)


USER_ERROR = 2
KILL, TERM, INT, STOP = signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP
ATTACKS = (
    Attack("SIGKILL to a rank", 2, to_rank(KILL)),
    Attack("SIGTERM to a rank", 2, to_rank(TERM)),
    Attack("SIGINT to a rank", 2, to_rank(INT)),
    Attack("a rank is frozen (SIGSTOP)", 2, to_rank(STOP)),
    Attack("SIGKILL to a rank, restarts", 2, to_rank(KILL), strikes=3, restarts=3, statuses=(0,)),
    Attack("a rank is frozen, restarts", 2, to_rank(STOP), restarts=3, statuses=(0,)),
    Attack("SIGKILL to the launcher", 2, to_started(KILL), statuses=(-9,)),
    Attack("SIGTERM to the launcher", 2, to_started(TERM), statuses=(143, -15, 0)),
    Attack("SIGINT to the launcher", 2, to_started(INT), statuses=(130, -2, 0)),
    Attack("SIGTERM, one process", 1, to_started(TERM), statuses=(143, -15, 0)),
    Attack("SIGKILL, one process", 1, to_started(KILL), statuses=(-9,)),
    Attack("loss of power", 0, power_cut),
    Attack("a second job in the directory", 0, second_job, statuses=(0,)),
    Attack("a bit of a checkpoint flips", 0, power_cut, damage=flip_a_bit),
    Attack("a checkpoint is cut short", 0, power_cut, damage=truncate),
    Attack("a checkpoint is deleted", 0, power_cut, damage=delete_one),
    Attack("a learner's checkpoints are deleted", 0, power_cut, damage=delete_a_learners),
    Attack("a learner's checkpoints are damaged", 0, power_cut, damage=damage_a_learners),
    Attack("checkpoints of another run", 0, power_cut, damage=copy_foreign),
    Attack("metrics.jsonl is spoilt", 0, power_cut, damage=spoil_metrics),
    Attack("weights are lost after the end", 0, damage=lose_weights),
)
