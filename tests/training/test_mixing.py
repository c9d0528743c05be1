"""The accumulators against the plain recursion, which is written here once more, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import MixConfig
from zipper_dist.training.mixing import Mixer, mixing_weights

Vector = npt.NDArray[np.float64]
Points = list[tuple[float, float]]

BOTH = ("natural", "adversarial")
SIZE = 40


@dataclass
class Case:
    """Iterations ``first`` … of a run of ``total_steps``, with the learners' weights after each."""

    first: int
    total_steps: int
    decay: float
    gamma: Points
    start: Vector
    thetas: list[dict[str, Vector]]

    @property
    def schedule(self) -> Schedule:
        return Schedule(tuple(self.gamma))


def a_case(
    seed: int, steps: int, decay: float, gamma: Points, first: int = 1, walk: float = 0.05
) -> Case:
    """Random walks of both learners from a common start. All values are fp32 numbers."""
    generator = np.random.default_rng(seed)

    def rounded(vector: Vector) -> Vector:
        return vector.astype(np.float32).astype(np.float64)

    start = rounded(generator.normal(size=SIZE))
    at = dict.fromkeys(BOTH, start)
    thetas = []
    for _ in range(steps):
        at = {name: rounded(at[name] + walk * generator.normal(size=SIZE)) for name in BOTH}
        thetas.append(at)
    return Case(first, first + steps - 1, decay, gamma, start, thetas)


def interpolated(points: Points, progress: float) -> float:
    return float(np.interp(progress, [at for at, _ in points], [value for _, value in points]))


def plain_recursion(case: Case) -> list[Vector]:
    """θ_g after each iteration: every learner at every iteration, in float64."""
    theta = case.start
    history = []
    for t, thetas in enumerate(case.thetas, case.first):
        alpha = min(case.decay, (1 + t) / (10 + t))
        gamma = interpolated(case.gamma, t / case.total_steps)
        mixture = gamma * thetas["adversarial"] + (1 - gamma) * thetas["natural"]
        theta = alpha * theta + (1 - alpha) * mixture
        history.append(theta)
    return history


def flat(vector: Vector) -> Tensor:
    return torch.tensor(vector, dtype=torch.float32)


def mixer_for(case: Case, learners: Sequence[str]) -> Mixer:
    weights = mixing_weights(MixConfig(gamma=case.schedule), BOTH, case.total_steps)
    return Mixer(flat(case.start), learners, "natural", weights, case.decay)


def accumulate(mixer: Mixer, case: Case, t: int) -> None:
    thetas = case.thetas[t - case.first]
    mixer.accumulate(t, {name: flat(thetas[name]) for name in mixer.accumulators})


def run(
    case: Case,
    mixers: Sequence[Mixer],
    syncs: set[int],
    each: Callable[[int], None] = lambda t: None,
) -> list[Tensor]:
    """θ_g after every sync and at the end, from processes that each hold one of ``mixers``."""
    found = []
    last = case.first + len(case.thetas) - 1
    for t in range(case.first, last + 1):
        for mixer in mixers:
            accumulate(mixer, case, t)
        each(t)
        if t in syncs or t == last:
            shares = {name: share for m in mixers for name, share in m.shares().items()}
            theta = mixers[0].total({name: shares[name] for name in BOTH})
            found.append(theta)
            for mixer in mixers:
                if t in syncs:
                    mixer.sync(t, theta)
    return found


def relative_error(found: Tensor, wanted: Vector) -> float:
    return float(np.linalg.norm(found.double().numpy() - wanted) / np.linalg.norm(wanted))


gammas = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4, unique_by=lambda p: p[0]
).map(sorted)
cases = st.builds(
    a_case,
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 400),
    decay=st.sampled_from([0.0, 0.3, 0.9, 0.97, 0.99, 0.999]),
    gamma=gammas,
)


@settings(max_examples=40, deadline=None)
@given(case=cases, data=st.data())
def test_the_accumulators_equal_the_plain_recursion(case: Case, data: st.DataObject) -> None:
    syncs = data.draw(st.sets(st.integers(1, len(case.thetas)), max_size=8), label="syncs")
    found = run(case, [mixer_for(case, BOTH)], syncs)
    history = plain_recursion(case)
    when = sorted(syncs | {len(case.thetas)})
    assert len(found) == len(when)
    for theta, t in zip(found, when, strict=True):
        assert relative_error(theta, history[t - 1]) < 1e-6


@pytest.mark.parametrize("decay", [0.97, 0.99, 0.999])
def test_the_accumulators_equal_the_plain_recursion_long_after_the_warm_up(decay: float) -> None:
    # Here α_t stands still, so whatever is wrong with it in fp32 adds up over 1 / (1 - α)
    # iterations and does not average out.
    case = a_case(seed=1, steps=4000, decay=decay, gamma=[(0, 1), (1, 0.4)], first=20001, walk=0.02)
    (found,) = run(case, [mixer_for(case, BOTH)], set())
    assert relative_error(found, plain_recursion(case)[-1]) < 1e-6


def test_no_iteration_means_the_start() -> None:
    case = a_case(seed=0, steps=1, decay=0.9, gamma=[(0, 0.5)])
    mixer = mixer_for(case, BOTH)
    assert torch.equal(mixer.total(mixer.shares()), flat(case.start))


def test_the_first_iterations_weigh_as_the_warm_up_says() -> None:
    # α_1 = 2/11 and α_2 = 3/12, worked out by hand.
    weights = mixing_weights(MixConfig(gamma=Schedule(((0.0, 0.25),))), BOTH, 2)
    mixer = Mixer(torch.tensor([11.0]), BOTH, "natural", weights, decay=0.999)
    mixer.accumulate(1, {"natural": torch.tensor([22.0]), "adversarial": torch.tensor([44.0])})
    assert float(mixer.total(mixer.shares())) == pytest.approx(2 + 9 / 11 * (16.5 + 11))
    mixer.accumulate(2, {"natural": torch.tensor([0.0]), "adversarial": torch.tensor([4.0])})
    assert float(mixer.total(mixer.shares())) == pytest.approx(24.5 / 4 + 0.75)


@settings(max_examples=15, deadline=None)
@given(case=cases, looks=st.sets(st.integers(1, 400), max_size=20))
def test_looks_change_nothing(case: Case, looks: set[int]) -> None:
    syncs = {len(case.thetas) // 2, len(case.thetas) - 2}
    unobserved, observed = mixer_for(case, BOTH), mixer_for(case, BOTH)

    def look(t: int) -> None:
        if t in looks:
            for share in observed.shares().values():
                share.fill_(torch.nan)

    undisturbed = run(case, [unobserved], syncs)
    disturbed = run(case, [observed], syncs, look)
    assert all(map(torch.equal, undisturbed, disturbed))
    for name in BOTH:
        assert torch.equal(unobserved.accumulators[name], observed.accumulators[name])


@settings(max_examples=15, deadline=None)
@given(case=cases, data=st.data())
def test_one_process_equals_two_bit_for_bit(case: Case, data: st.DataObject) -> None:
    syncs = data.draw(st.sets(st.integers(1, len(case.thetas)), max_size=5), label="syncs")
    together = mixer_for(case, BOTH)
    apart = [mixer_for(case, [name]) for name in BOTH]
    assert all(map(torch.equal, run(case, [together], syncs), run(case, apart, syncs)))
    shares = [mixer.shares()[name] for mixer, name in zip(apart, BOTH, strict=True)]
    assert all(map(torch.equal, together.shares().values(), shares))
    # An all-reduce adds in an order of its own.
    assert torch.equal(together.total(together.shares()), shares[1] + shares[0])


def test_only_the_leader_keeps_the_global_weights() -> None:
    case = a_case(seed=0, steps=3, decay=0.9, gamma=[(0, 0.5)])
    mixers = {name: mixer_for(case, [name]) for name in BOTH}
    run(case, list(mixers.values()), {2})
    assert "global" in mixers["natural"].tensors("natural")
    assert "global" not in mixers["adversarial"].tensors("adversarial")
    assert [mixer.synced_at for mixer in mixers.values()] == [2, 2]


def test_any_learner_may_lead() -> None:
    case = a_case(seed=0, steps=9, decay=0.9, gamma=[(0, 0.5)])
    weights = mixing_weights(MixConfig(gamma=case.schedule), BOTH, case.total_steps)
    mixers = [Mixer(flat(case.start), BOTH, leader, weights, case.decay) for leader in BOTH]
    natural, adversarial = (run(case, [mixer], {5})[-1] for mixer in mixers)
    assert torch.allclose(natural, adversarial, rtol=1e-5, atol=1e-6)
    moved = {name: mixers[1].shares()[name] - mixers[0].shares()[name] for name in BOTH}
    assert torch.allclose(moved["adversarial"], -moved["natural"], atol=1e-6)
    assert moved["adversarial"].abs().max() > 1e-3


def test_the_mixer_keeps_copies() -> None:
    start, trained = torch.ones(3), torch.full((3,), 5.0)
    mixer = Mixer(start, ["only"], "only", lambda t: {"only": 1.0}, decay=0.5)
    mixer.accumulate(100, {"only": trained})
    expected = mixer.shares()["only"]
    for tensor in (start, trained):
        tensor.fill_(torch.nan)
    assert torch.equal(mixer.shares()["only"], expected)
    synced = expected.clone()
    mixer.sync(100, synced)
    synced.fill_(torch.nan)
    assert torch.equal(mixer.shares()["only"], expected)


@settings(max_examples=10, deadline=None)
@given(case=cases, data=st.data())
def test_a_restored_mixer_goes_on_bit_for_bit(case: Case, data: st.DataObject) -> None:
    steps = len(case.thetas)
    stop = data.draw(st.integers(1, steps), label="stop")
    syncs = data.draw(st.sets(st.integers(1, steps), max_size=3), label="syncs")
    mixer = mixer_for(case, BOTH)
    saved: dict[str, Mapping[str, Tensor]] = {}
    notes: list[tuple[float, int]] = []

    def save(t: int) -> None:
        if t == stop:
            for name in BOTH:
                saved[name] = {key: value.clone() for key, value in mixer.tensors(name).items()}
            notes.append((mixer.carry, mixer.synced_at))

    uninterrupted = run(case, [mixer], syncs - {stop}, save)
    resumed = mixer_for(case, BOTH)
    for name in BOTH:
        resumed.restore(name, saved[name], *notes[0])
    if stop < steps:
        rest = Case(stop + 1, steps, case.decay, case.gamma, case.start, case.thetas[stop:])
        theta = run(rest, [resumed], {t for t in syncs if t > stop})[-1]
    else:
        theta = resumed.total(resumed.shares())
    assert torch.equal(theta, uninterrupted[-1])
    assert resumed.synced_at == mixer.synced_at


@settings(deadline=None)
@given(gamma=gammas, t=st.integers(1, 100))
def test_the_weights_sum_to_one_and_gamma_is_the_adversarial_one(gamma: Points, t: int) -> None:
    config = MixConfig(gamma=Schedule(tuple(gamma)))
    weights = mixing_weights(config, BOTH, 100)(t)
    assert sum(weights.values()) == pytest.approx(1, abs=1e-15)
    assert all(0 <= weight <= 1 for weight in weights.values())
    assert weights["adversarial"] == pytest.approx(interpolated(gamma, t / 100), abs=1e-12)


@pytest.mark.parametrize("name", ["adversarial", "natural", "trades"])
def test_a_method_of_one_learner_gives_it_the_weight_one(name: str) -> None:
    config = MixConfig(gamma=Schedule(((0.0, 0.3),)))
    weights = mixing_weights(config, [name], 10)
    assert [weights(t) for t in (1, 10)] == [{name: 1.0}] * 2

    mixer = Mixer(torch.zeros(1), [name], name, weights, decay=0.5)
    average = 0.0
    for t in range(1, 60):
        mixer.accumulate(t, {name: torch.tensor([float(t)])})
        alpha = min(0.5, (1 + t) / (10 + t))
        average = alpha * average + (1 - alpha) * t
    assert float(mixer.shares()[name]) == pytest.approx(average, rel=1e-6)
