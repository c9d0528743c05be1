"""Catastrophic overfitting of one-step adversarial training, as evaluations show it."""

from collections.abc import Sequence

from zipper_dist.config.schema import AttackedLearnerConfig, TrainConfig
from zipper_dist.metrics.records import Record

FALL = 20.0
"""Robust accuracy that is lost by it, at least [points]: the criterion of the release of Wong, Rice
and Kolter, "Fast Is Better than Free", ICLR 2020."""


def one_step_learners(config: TrainConfig) -> list[str]:
    """The learners whose attack has a single step, by name."""
    return [
        name
        for name, learner in config.learners.items()
        if isinstance(learner, AttackedLearnerConfig) and learner.attack.steps == 1
    ]


def overfits(record: Record, history: Sequence[Record], learners: Sequence[str]) -> list[str]:
    """What to say of an evaluation of θ_g, a ``record`` after those of the ``history``, if one of
    ``learners``, which attack in one step, has overfitted; else nothing.

    Robust accuracy has fallen from the highest of a network that tells images apart, and clean
    accuracy by at most half as much: it is not the network that got worse, but the attack in
    training that it has learnt to deceive.
    """
    alive = [each for each in history if not each.get("constant")]
    peak = max(alive, key=lambda each: each["robust"], default=record)
    lost, lost_clean = (peak[name] - record[name] for name in ("robust", "clean"))
    if not learners or lost <= FALL or lost_clean > lost / 2:
        return []
    option = f"--learners.{learners[0]}"
    return [
        "catastrophic overfitting to the one step of the attack in training: robust accuracy is "
        f"{record['robust']:.1f} %, after {peak['robust']:.1f} % at iteration {peak['step']}; "
        f"best.safetensors has the best weights so far. {option}.objective nfgsm, a smaller "
        f"{option}.attack.step-size, more {option}.attack.steps or a shorter run avoid it"
    ]
