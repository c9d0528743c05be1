"""The end of a run: weights, accuracy of every learner on the test set, summary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.data import ImageSet
from zipper_dist.metrics.terminal import Display
from zipper_dist.training.mixing import total
from zipper_dist.training.scoring import Score
from zipper_dist.training.trainer import Trainer

Scores = dict[str, Score]


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
    scores = _evaluate(trainer, theta, test, display)
    trainer.settle()
    report = {
        "scores": {name: vars(score) for name, score in scores.items()},
        "training": training,
        "with_looks": with_looks,
        "timers": _account(trainer),
    }
    reports = trainer.wait(trainer.world.gather("final scores", report))
    trainer.metrics.poll(now=True)
    if trainer.world.rank != 0:
        return {}
    summary = _summary(trainer, reports)
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


def _evaluate(trainer: Trainer, theta: Tensor, test: ImageSet, display: Display) -> Scores:
    world, evaluator = trainer.world, trainer.evaluator
    scores: Scores = {learner.name: Score() for learner in trainer.learners}
    scores["global"] = Score()
    work = len(test) * (len(trainer.learners) + 1 / world.size)

    def run(steps: Iterator[None]) -> None:
        start = time.perf_counter()
        for _ in steps:
            trainer.signals.check()
            done = sum(score.images for score in scores.values())
            display.stage("evaluating on the test set", done / work)
        trainer.timers.eval_seconds += time.perf_counter() - start

    for learner in trainer.learners:
        evaluator.load(learner.state.flat, learner.state.integers)
        run(evaluator.steps(test, scores[learner.name]))
    evaluator.load(theta, trainer.learners[0].state.integers)
    run(evaluator.steps(test, scores["global"], part=world.rank, parts=world.size))
    return scores


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


def _summary(trainer: Trainer, reports: list[dict[str, Any]]) -> dict[str, Any]:
    config, evaluator = trainer.config, trainer.evaluator
    scores: Scores = {}
    for report in reports:
        for name, fields in report["scores"].items():
            scores[name] = scores.get(name, Score()) + Score(**fields)
    order = [*config.learners, "global"]
    training = [report["training"] for report in reports]
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
        "wall_seconds": max(report["with_looks"]["wall_seconds"] for report in reports),
        "look_seconds": sum(report["with_looks"]["eval_seconds"] for report in reports),
        "train_seconds": train_seconds,
        "eval_seconds": sum(report["timers"]["eval_seconds"] for report in reports),
        "images_per_second": steps * config.batch_size / train_seconds,
        "evaluation_attack": vars(evaluator.attack),
        "final": {
            "images": scores["global"].images,
            "learners": {name: scores[name].accuracies() for name in order},
        },
        "best": evaluator.best,
        "ranks": [report["timers"] for report in reports],
    }
