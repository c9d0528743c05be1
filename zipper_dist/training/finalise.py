"""The end of a run: weights, accuracy of every learner on the test set, summary."""

from typing import Any

import torch
from torch import Tensor

from zipper_dist.activity import doing
from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.data import ImageSet
from zipper_dist.evaluation.attack_list import distinct_parts
from zipper_dist.evaluation.engine import Engine, Found
from zipper_dist.evaluation.results.report import report
from zipper_dist.training.agreement import check_agreement
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.loop import global_learner
from zipper_dist.training.validation import accuracies


def finalise(run: RunContext, state: TrainState, test: ImageSet) -> dict[str, Any]:
    """Save and evaluate the learners of a run whose training is done; the summary, on rank 0.

    Each rank evaluates its part of the images with every network.
    """
    theta = global_learner(run, state)
    check_agreement(run, state, theta)
    training = state.timers.settle(run)
    state.validation.finish()
    # The last snapshot is evaluated by now whatever the number of ranks, so that all count alike.
    with_validation = state.timers.settle(run)
    extra = {"step": str(state.at), **state.validator.about}
    for learner in state.learners:
        if learner.name in state.led:
            path, weights = run.directory.weights(learner.name), learner.state.state_dict()
            save_weights(path, weights, state.validator.spec, extra)
    if state.chief:
        state.validator.load(theta, state.learners[0].state.integers)
        state.validator.save(run.directory.weights("global"), extra)
        state.validator.write_best()
    mine = {
        "sha256": run.directory.digests(state.weights_files),
        "found": _evaluate(run, state, theta, test),
        "training": training,
        "with_validation": with_validation,
        "timers": _account(run, state),
        "best": state.validator.best if state.chief else None,
    }
    reports = run.wait(run.world.gather("final scores", mine))
    run.metrics.poll(now=True)
    if run.world.rank != 0:
        return {}
    summary = _summary(run, state, test, reports)
    write_json(run.directory.summary, summary)
    return summary


@doing("evaluating")
def _evaluate(
    run: RunContext, state: TrainState, theta: Tensor, test: ImageSet
) -> dict[str, Found]:
    """What this rank finds out about each network."""
    world, validator = run.world, state.validator
    parts = distinct_parts(validator.wanted)
    # Clean images, every step of every attack, and the verdicts on what they find.
    cost = 1 + sum(attack.cost + 1 for attack in parts)
    work = cost * len(test) * (len(run.config.learners) + 1) / world.size  # for the display
    done = 0

    def tick(cost: int) -> None:
        nonlocal done
        done += cost

    def evaluate(engine: Engine) -> Found:
        engine.tick = tick
        with state.timers.evaluating():
            for _ in engine.run(validator.wanted):
                run.stop.check()
                run.metrics.stage("evaluating on the test set", min(1.0, done / work))
        return engine.found(parts)

    found: dict[str, Found] = {}
    integers = state.learners[0].state.integers
    for name, weights in {**_networks(run, state), "global": theta}.items():
        validator.load(weights, integers)
        found[name] = evaluate(validator.engine(test, world.rank, world.size))
    return found


def _networks(run: RunContext, state: TrainState) -> dict[str, Tensor]:
    """The flat weights of every learner, from the rank that leads it."""
    mine = {learner.name: learner.state.flat for learner in state.learners}
    weights = {}
    for name in run.config.learners:
        own = mine[name].clone() if name in state.led else torch.zeros_like(state.validator.flat)
        weights[name] = run.wait(run.world.all_reduce(own))
    return weights


def _account(run: RunContext, state: TrainState) -> dict[str, Any]:
    """The entry of this rank in summary.json."""
    timers, plan = state.timers.settle(run), run.world.plan
    return {
        "rank": plan.rank,
        "learners": [learner.name for learner in state.learners],
        "device": str(plan.device),
        "threads": plan.threads,
        "busy_seconds": timers["wall_seconds"] - timers["eval_seconds"] - timers["wait_seconds"],
        **timers,
        "looks": len(state.validation.posted),
    }


def _summary(
    run: RunContext, state: TrainState, test: ImageSet, reports: list[dict[str, Any]]
) -> dict[str, Any]:
    config, validator = run.config, state.validator
    engine, wanted = validator.engine(test), validator.wanted
    learners: dict[str, dict[str, float]] = {}
    for name in (*config.learners, "global"):
        found = [each["found"][name] for each in reports if name in each["found"]]
        tested = report(engine, wanted, found)
        learners[name] = accuracies(tested, wanted)
        for warning in tested.warnings:
            run.metrics.note(f"warning: test of the {name} learner: {warning}")
    # Up to the last sync, without the evaluation, which ranks mostly do while they wait.
    training = [each["training"] for each in reports]
    train_seconds = max(timers["wall_seconds"] - timers["eval_seconds"] for timers in training)
    settled = [each["with_validation"] for each in reports]
    ranks = [each["timers"] for each in reports]
    steps = state.plan.total_steps
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        "steps": steps,
        "epochs": state.plan.epoch(steps),
        "redistributions": state.plan.redistributions,
        "wall_seconds": max(timers["wall_seconds"] for timers in settled),
        "look_seconds": sum(timers["eval_seconds"] for timers in settled),
        "train_seconds": train_seconds,
        "eval_seconds": sum(timers["eval_seconds"] for timers in ranks),
        "images_per_second": steps * state.loader.batch_size / train_seconds,
        "evaluation_attack": validator.attack,
        "final": {"images": len(test), "learners": learners},
        "best": next((each["best"] for each in reports if each["best"]), None),
        "sha256": {name: digest for each in reports for name, digest in each["sha256"].items()},
        "ranks": ranks,
    }
