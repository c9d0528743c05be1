import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipper_dist.attacks import Ball, L2Ball, LinfBall, make_ball
from zipper_dist.config.threat import Norm

NORMS: tuple[Norm, ...] = ("linf", "l2")
HALF = 0.5


def images_with_extremes(generator: torch.Generator, *shape: int) -> Tensor:
    """Random images about a third of whose pixels are exactly 0 or exactly 1."""
    stretched = 1.5 * torch.rand(shape, generator=generator) - 0.25
    return stretched.clamp(0, 1)


def assert_inside(norm: Norm, x: Tensor, x_adv: Tensor, eps: float) -> None:
    delta = (x_adv.double() - x.double()).flatten(1)
    distance = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert distance.max().item() <= eps
    assert x_adv.dtype == torch.float32
    assert x_adv.min().item() >= 0
    assert x_adv.max().item() <= 1


@settings(max_examples=150, deadline=None)
@given(
    norm=st.sampled_from(NORMS),
    seed=st.integers(0, 2**32),
    shape=st.tuples(*(st.integers(1, n) for n in (4, 3, 12, 12))),
    eps=st.floats(1e-4, 1),
    relative_step=st.floats(0.01, 3),
)
def test_every_point_is_exactly_inside(
    norm: Norm, seed: int, shape: tuple[int, ...], eps: float, relative_step: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = images_with_extremes(generator, *shape)
    before = x.clone()
    ball = make_ball(norm, x, eps)
    x_adv = ball.random_start(generator)
    assert_inside(norm, x, x_adv, eps)
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator)
        x_adv = ball.step(x_adv, gradient, relative_step * eps)
        assert_inside(norm, x, x_adv, eps)
        assert torch.equal(ball.project(x_adv), x_adv)
    far_away = x + 10 * torch.randn(shape, generator=generator)
    assert_inside(norm, x, ball.project(far_away), eps)
    assert torch.equal(x, before)


@pytest.mark.parametrize("pixels", [1, 2, 3])
@pytest.mark.parametrize("eps", [0.4, 0.7, 0.99])
def test_few_pixels_leave_little_room_for_rounding(pixels: int, eps: float) -> None:
    # Around black images adding δ rounds nothing: the errors left are those of the scaled δ.
    x = torch.zeros(2000, 1, 1, pixels)
    ball = make_ball("l2", x, eps)
    far_away = 1 + torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    projected = ball.project(far_away)
    assert_inside("l2", x, projected, eps)
    assert torch.equal(ball.project(projected), projected)
    # Points a few float32 spacings inside and outside the surface.
    assert_inside("l2", x, ball.project(projected * (1 + 3e-7 * far_away)), eps)


@pytest.mark.parametrize("eps", [1e-4, 8 / 255, 0.3])
def test_linf_ball_reaches_to_the_last_float(eps: float) -> None:
    x = images_with_extremes(torch.Generator().manual_seed(0), 4, 3, 32, 32)
    ball = make_ball("linf", x, eps)
    for towards, edge in ((-1.0, 0.0), (2.0, 1.0)):
        bound = ball.project(torch.full_like(x, towards))
        next_float = torch.nextafter(bound, torch.tensor(towards))
        beyond = (next_float.double() - x.double()).abs() > eps
        assert bool(((bound == edge) | beyond).all())


@pytest.mark.parametrize("eps", [1e-2, 0.5, 3.0])
def test_l2_ball_gives_away_no_more_than_rounding(eps: float) -> None:
    x = torch.full((8, 3, 32, 32), HALF)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    distance = (make_ball("l2", x, eps).project(x + direction) - x).double().flatten(1).norm(dim=1)
    allowance = 2 * math.sqrt(3 * 32 * 32) * 2**-25 + eps * 2**-20
    assert distance.min().item() >= eps - allowance


def test_steps_follow_the_normalised_gradient() -> None:
    x = torch.full((3, 1, 1, 2), HALF)
    gradient = torch.tensor([[3e-30, -4e-30], [0.0, 0.0], [3e30, 4e30]]).view(3, 1, 1, 2)
    linf = make_ball("linf", x, 0.3).step(x, gradient, 0.1) - x
    l2 = make_ball("l2", x, 0.3).step(x, gradient, 0.1) - x
    torch.testing.assert_close(linf.flatten(1), torch.tensor([[0.1, -0.1], [0, 0], [0.1, 0.1]]))
    torch.testing.assert_close(
        l2.flatten(1), torch.tensor([[0.06, -0.08], [0, 0], [0.06, 0.08]]), atol=1e-7, rtol=0
    )


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_that_are_not_finite_stay_inside(norm: Norm) -> None:
    x = images_with_extremes(torch.Generator().manual_seed(0), 2, 1, 4, 4)
    gradient = torch.ones_like(x)
    gradient[0, 0, 0] = math.nan
    gradient[0, 0, 1, 0] = math.inf
    gradient[1] = math.nan
    x_adv = make_ball(norm, x, 0.1).step(x, gradient, 0.1)
    assert_inside(norm, x, x_adv, 0.1)
    assert torch.equal(x_adv[0, 0, 0], x[0, 0, 0])
    assert torch.equal(x_adv[1], x[1])
    assert not torch.equal(x_adv[0, 0, 1], x[0, 0, 1])


def test_random_starts_fill_the_ball_evenly() -> None:
    x = torch.full((20_000, 1, 1, 2), HALF)
    generator = torch.Generator().manual_seed(0)
    noise = (make_ball("linf", x, 0.4).random_start(generator) - x).flatten(1)
    torch.testing.assert_close(
        torch.histc(noise, bins=4, min=-0.4, max=0.4) / noise.numel(),
        torch.full((4,), 0.25),
        atol=0.01,
        rtol=0,
    )
    noise = (make_ball("l2", x, 0.4).random_start(generator) - x).flatten(1)
    # In two dimensions the area within half the radius is a quarter of the whole.
    assert (noise.norm(dim=1) < 0.2).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert (noise > 0).all(dim=1).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert noise.norm(dim=1).max().item() == pytest.approx(0.4, rel=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_the_start_does_not_depend_on_the_memory_format(norm: Norm) -> None:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    channels_last = x.to(memory_format=torch.channels_last)
    start = make_ball(norm, x, 0.1).random_start(torch.Generator().manual_seed(1))
    ball = make_ball(norm, channels_last, 0.1)
    same_start = ball.random_start(torch.Generator().manual_seed(1))
    # Sums over an image may be taken in another order, which shows in the last digit.
    torch.testing.assert_close(start, same_start, atol=1e-7, rtol=0)
    assert same_start.is_contiguous(memory_format=torch.channels_last)
    stepped = ball.step(same_start, channels_last, 0.1)
    assert stepped.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", NORMS)
def test_a_ball_of_radius_zero_holds_the_clean_image(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    x = images_with_extremes(generator, 2, 3, 4, 4)
    ball = make_ball(norm, x, 0.0)
    assert torch.equal(ball.random_start(generator), x)
    assert torch.equal(ball.step(x, torch.ones_like(x), 0.1), x)


def test_make_ball_chooses_by_norm_and_refuses_nonsense() -> None:
    x = torch.zeros(1, 1, 2, 2)
    balls: tuple[Ball, Ball] = (make_ball("linf", x, 0.1), make_ball("l2", x, 0.1))
    assert [type(ball) for ball in balls] == [LinfBall, L2Ball]
    with pytest.raises(ValueError, match="l1"):
        make_ball("l1", x, 0.1)  # type: ignore[arg-type]
    for eps in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="eps"):
            make_ball("linf", x, eps)
