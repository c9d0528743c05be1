"""The end of a run: weights, accuracy of every learner on the test set, summary."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.data import ImageSet
from zipper_dist.evaluation.attack_list import distinct_parts
from zipper_dist.evaluation.engine import Engine, Found
from zipper_dist.evaluation.results.report import report
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.mixing import total
from zipper_dist.training.validation import accuracies

Counts = dict[str, Found]
"""What a rank found out about each network."""


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
    found = _evaluate(run, state, theta, test)
    state.timers.settle(run.wait, run.world)
    mine = {
        "found": found,
        "training": training,
        "with_validation": with_validation,
        "timers": _account(run, state),
    }
    reports = run.wait(run.world.gather("final scores", mine))
    run.metrics.poll(now=True)
    if run.world.rank != 0:
        return {}
    summary = _summary(run, state, test, reports)
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


def _evaluate(run: RunContext, state: TrainState, theta: Tensor, test: ImageSet) -> Counts:
    world, validator = run.world, state.evaluator
    parts = distinct_parts(validator.wanted)
    # Clean images, every step of every attack, and the verdicts on what they find.
    cost = 1 + sum(attack.cost + 1 for attack in parts)
    work = cost * len(test) * (len(state.learners) + 1 / world.size)
    done = 0
    counts: Counts = {}

    def tick(cost: int) -> None:
        nonlocal done
        done += cost

    def evaluate(name: str, engine: Engine) -> None:
        engine.tick = tick
        with state.timers.evaluating():
            for _ in engine.run(validator.wanted):
                run.signals.check()
                run.metrics.stage("evaluating on the test set", min(1.0, done / work))
        counts[name] = engine.found(parts)

    for learner in state.learners:
        validator.load(learner.state.flat, learner.state.integers)
        evaluate(learner.name, validator.engine(test))
    validator.load(theta, state.learners[0].state.integers)
    evaluate("global", validator.engine(test, world.rank, world.size))
    return counts


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


def _summary(
    run: RunContext, state: TrainState, test: ImageSet, reports: list[dict[str, Any]]
) -> dict[str, Any]:
    config, evaluator = run.config, state.evaluator
    engine, wanted = evaluator.engine(test), evaluator.wanted
    learners: dict[str, dict[str, float]] = {}
    for name in (*config.learners, "global"):
        found = [told["found"][name] for told in reports if name in told["found"]]
        learners[name] = accuracies(report(engine, wanted, found), wanted)
    training = [told["training"] for told in reports]
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
        "wall_seconds": max(told["with_validation"]["wall_seconds"] for told in reports),
        "look_seconds": sum(told["with_validation"]["eval_seconds"] for told in reports),
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
