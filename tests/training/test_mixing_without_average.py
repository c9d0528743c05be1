"""The global learner without a moving average: α = 0, as in the methods of one learner."""

from __future__ import annotations

import pytest
import torch

from zipper_dist.training.mixing import Mixer

BOTH = ("natural", "adversarial")


@pytest.mark.parametrize("learners", [("only",), BOTH])
def test_without_an_average_the_global_learner_is_the_mixture_of_now(
    learners: tuple[str, ...],
) -> None:
    generator = torch.Generator().manual_seed(0)
    share = 1 / len(learners)
    weights = dict.fromkeys(learners, share)
    mixer = Mixer(torch.full((9,), 7.0), learners, learners[0], lambda t: weights, decay=0.0)
    for t in range(1, 40):
        thetas = {name: torch.randn(9, generator=generator) for name in learners}
        mixer.accumulate(t, thetas)
        theta = mixer.total(mixer.shares())
        # To the bit: halves are exact, and a method of one learner must return that learner.
        assert torch.equal(theta, torch.stack([share * thetas[name] for name in learners]).sum(0))
        if t in (5, 6, 30):
            mixer.sync(t, theta)
            assert torch.equal(mixer.total(mixer.shares()), theta)
        if t == 20:
            resumed = Mixer(torch.zeros(9), learners, learners[0], lambda t: weights, decay=0.0)
            for name in learners:
                resumed.restore(name, mixer.tensors(name), mixer.carry, mixer.synced_at)
            assert torch.equal(resumed.total(resumed.shares()), theta)
            mixer = resumed
