"""The end of a run: weights, accuracy of every learner on the test set, summary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.data import ImageSet
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.mixing import total
from zipper_dist.training.scoring import Score

Scores = dict[str, Score]


def finalise(run: RunContext, state: TrainState, test: ImageSet) -> dict[str, Any]:
    """Save and evaluate the learners of a run whose training is done.

    Each rank evaluates its own learners and its part of the global learner. Returns the summary,
    which is empty on all ranks but 0.
    """
    theta = run.wait(run.world.all_reduce(total(state.mixer.shares())))
    state.timers.syncs += 1
    state.timers.settle(run.wait, run.world)
    training = state.timers.figures()
    state.validation.finish()
    state.timers.settle(run.wait, run.world)
    # The last snapshot is evaluated now in every placement, so that all count the same evaluations.
    with_validation = state.timers.figures()
    _save_weights(run, state, theta)
    scores = _evaluate(run, state, theta, test)
    state.timers.settle(run.wait, run.world)
    report = {
        "scores": {name: vars(score) for name, score in scores.items()},
        "training": training,
        "with_validation": with_validation,
        "timers": _account(run, state),
    }
    reports = run.wait(run.world.gather("final scores", report))
    run.metrics.poll(now=True)
    if run.world.rank != 0:
        return {}
    summary = _summary(run, state, reports)
    write_json(run.directory.summary, summary)
    return summary


def _save_weights(run: RunContext, state: TrainState, theta: Tensor) -> None:
    spec, directory = state.evaluator.spec, run.directory
    extra = {"step": str(state.at)}
    for learner in state.learners:
        save_weights(directory.weights(learner.name), learner.state.state_dict(), spec, extra)
    if run.world.rank == 0:
        state.evaluator.load(theta, state.learners[0].state.integers)
        state.evaluator.save(directory.weights("global"), extra)


def _evaluate(run: RunContext, state: TrainState, theta: Tensor, test: ImageSet) -> Scores:
    world, evaluator = run.world, state.evaluator
    scores: Scores = {learner.name: Score() for learner in state.learners}
    scores["global"] = Score()
    work = len(test) * (len(state.learners) + 1 / world.size)

    def evaluate(steps: Iterator[None]) -> None:
        with state.timers.evaluating():
            for _ in steps:
                run.signals.check()
                done = sum(score.images for score in scores.values())
                run.metrics.stage("evaluating on the test set", done / work)

    for learner in state.learners:
        evaluator.load(learner.state.flat, learner.state.integers)
        evaluate(evaluator.steps(test, scores[learner.name]))
    evaluator.load(theta, state.learners[0].state.integers)
    evaluate(evaluator.steps(test, scores["global"], part=world.rank, parts=world.size))
    return scores


def _account(run: RunContext, state: TrainState) -> dict[str, Any]:
    timers = state.timers
    busy = timers.wall_seconds - timers.eval_seconds - timers.wait_seconds
    return {
        "rank": run.world.rank,
        "learners": [learner.name for learner in state.learners],
        "device": str(run.world.plan.device),
        "threads": run.world.plan.threads,
        "busy_seconds": busy,
        **timers.figures(),
        "looks": len(state.validation.posted),
    }


def _summary(run: RunContext, state: TrainState, reports: list[dict[str, Any]]) -> dict[str, Any]:
    config, evaluator = run.config, state.evaluator
    scores: Scores = {}
    for report in reports:
        for name, fields in report["scores"].items():
            scores[name] = scores.get(name, Score()) + Score(**fields)
    order = [*config.learners, "global"]
    training = [report["training"] for report in reports]
    # Up to the last sync. Evaluation happens beside the training where a rank would wait; where it
    # does not, it is no part of the training time either.
    train_seconds = max(t["wall_seconds"] - t["eval_seconds"] for t in training)
    steps = state.plan.total_steps
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        "steps": steps,
        "epochs": state.plan.epoch(steps),
        "redistributions": state.plan.redistributions,
        "wall_seconds": max(report["with_validation"]["wall_seconds"] for report in reports),
        "look_seconds": sum(report["with_validation"]["eval_seconds"] for report in reports),
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
