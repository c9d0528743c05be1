"""The end of a run: weights, accuracy of every learner on the test set, summary."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.data import ImageSet
from zipper_dist.evaluation.attack_list import distinct_parts
from zipper_dist.evaluation.engine import Engine, Found
from zipper_dist.evaluation.results.report import report
from zipper_dist.metrics.terminal import Display
from zipper_dist.training.mixing import total
from zipper_dist.training.trainer import Trainer
from zipper_dist.training.validation import accuracies

Counts = dict[str, Found]
"""What a rank found out about each network."""


def finish(trainer: Trainer, test: ImageSet, display: Display) -> dict[str, Any]:
    """Save and evaluate the learners of a run whose training is done.

    Each rank evaluates its own learners and its part of the global learner. Returns the summary,
    which is empty on all ranks but 0.
    """
    theta = trainer.wait(trainer.world.all_reduce(total(trainer.mixer.shares())))
    trainer.timers.syncs += 1
    trainer.settle()
    training = vars(trainer.timers).copy()
    trainer.validation.finish()
    trainer.settle()
    # The last look is done now in every placement, so that all count the same evaluations.
    with_looks = vars(trainer.timers).copy()
    _save_weights(trainer, theta)
    found = _evaluate(trainer, theta, test, display)
    trainer.settle()
    mine = {
        "found": found,
        "training": training,
        "with_looks": with_looks,
        "timers": _account(trainer),
    }
    reports = trainer.wait(trainer.world.gather("final scores", mine))
    trainer.metrics.poll(now=True)
    if trainer.world.rank != 0:
        return {}
    summary = _summary(trainer, test, reports)
    write_json(trainer.directory.summary, summary)
    return summary


def _save_weights(trainer: Trainer, theta: Tensor) -> None:
    spec, directory = trainer.evaluator.spec, trainer.directory
    extra = {"step": str(trainer.at)}
    for learner in trainer.learners:
        save_weights(directory.weights(learner.name), learner.state.state_dict(), spec, extra)
    if trainer.world.rank == 0:
        trainer.evaluator.load(theta, trainer.learners[0].state.integers)
        trainer.evaluator.save(directory.weights("global"), extra)


def _evaluate(trainer: Trainer, theta: Tensor, test: ImageSet, display: Display) -> Counts:
    world, validator = trainer.world, trainer.evaluator
    parts = distinct_parts(validator.wanted)
    # Clean images, every step of every attack, and the verdicts on what they find.
    cost = 1 + sum(attack.cost + 1 for attack in parts)
    work = cost * len(test) * (len(trainer.learners) + 1 / world.size)
    done = 0
    counts: Counts = {}

    def tick(cost: int) -> None:
        nonlocal done
        done += cost

    def run(name: str, engine: Engine) -> None:
        start = time.perf_counter()
        engine.tick = tick
        for _ in engine.run(validator.wanted):
            trainer.signals.check()
            display.stage("evaluating on the test set", min(1.0, done / work))
        trainer.timers.eval_seconds += time.perf_counter() - start
        counts[name] = engine.found(parts)

    for learner in trainer.learners:
        validator.load(learner.state.flat, learner.state.integers)
        run(learner.name, validator.engine(test))
    validator.load(theta, trainer.learners[0].state.integers)
    run("global", validator.engine(test, world.rank, world.size))
    return counts


def _account(trainer: Trainer) -> dict[str, Any]:
    timers = trainer.timers
    busy = timers.wall_seconds - timers.eval_seconds - timers.wait_seconds
    return {
        "rank": trainer.world.rank,
        "learners": [learner.name for learner in trainer.learners],
        "device": str(trainer.world.plan.device),
        "threads": trainer.world.plan.threads,
        "busy_seconds": busy,
        **vars(timers),
        "looks": len(trainer.validation.posted),
    }


def _summary(trainer: Trainer, test: ImageSet, reports: list[dict[str, Any]]) -> dict[str, Any]:
    config, evaluator = trainer.config, trainer.evaluator
    engine, wanted = evaluator.engine(test), evaluator.wanted
    learners: dict[str, dict[str, float]] = {}
    for name in (*config.learners, "global"):
        found = [told["found"][name] for told in reports if name in told["found"]]
        learners[name] = accuracies(report(engine, wanted, found), wanted)
    training = [told["training"] for told in reports]
    # Up to the last sync. Evaluation happens beside the training where a rank would wait; where it
    # does not, it is no part of the training time either.
    train_seconds = max(t["wall_seconds"] - t["eval_seconds"] for t in training)
    steps = trainer.plan.total_steps
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        "steps": steps,
        "epochs": trainer.plan.epoch(steps),
        "redistributions": trainer.plan.redistributions,
        "wall_seconds": max(told["with_looks"]["wall_seconds"] for told in reports),
        "look_seconds": sum(told["with_looks"]["eval_seconds"] for told in reports),
        "train_seconds": train_seconds,
        "eval_seconds": sum(told["timers"]["eval_seconds"] for told in reports),
        "images_per_second": steps * config.batch_size / train_seconds,
        "evaluation_attack": evaluator.attack,
        "final": {
            "images": len(test),
            "learners": learners,
        },
        "best": evaluator.best,
        "ranks": [told["timers"] for told in reports],
    }
