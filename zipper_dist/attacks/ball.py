"""The set an attack may move its images in: a norm ball around each clean image, cut by [0, 1].

Every image that a ball returns is inside **exactly**: the norm of x′ − x, evaluated in float64, is
at most the Python float eps, and every pixel lies in [0, 1]. A NaN in a gradient counts as 0.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from zipper_dist.attacks.draws import Generators
from zipper_dist.config.threat import Norm

_TINY = torch.finfo(torch.float32).tiny


class Ball(ABC):
    """The perturbed images allowed for a batch of clean images (B, C, H, W), float32 in [0, 1]; no
    method modifies its arguments."""

    def __init__(self, x: Tensor, eps: float) -> None:
        self._x = x.detach()
        self._eps = eps

    def random_start(self, generators: Generators) -> Tensor:
        """Images (B, C, H, W) at uniformly random points of the ball, then cut to [0, 1]."""
        return self.project(self._x + self._noise(generators))

    def step(self, x_adv: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """``x_adv`` (B, C, H, W) moved by ``step_size`` [1 = the full pixel range] along steepest
        ascent in the ball's norm, and back into the ball; with a gradient of zero it stays."""
        return self.project(x_adv + step_size * self._direction(gradient))

    @abstractmethod
    def project(self, x_adv: Tensor) -> Tensor:
        """Images (B, C, H, W) inside the ball, near ``x_adv``; unchanged bits if it was inside."""

    @abstractmethod
    def _noise(self, generators: Generators) -> Tensor:
        """Uniformly random perturbations (B, C, H, W) of the ball's radius."""

    @abstractmethod
    def _direction(self, gradient: Tensor) -> Tensor:
        """Steepest ascent in the ball's norm, of length 1; 0 where the gradient is 0 or NaN."""


def drawn(
    shape: Sequence[int], x: Tensor, generators: Generators, fill: Callable[..., Tensor]
) -> Tensor:
    """Random numbers of ``shape`` (B, …), on the device and in the type of ``x``; ``fill`` draws
    into the whole tensor, or into each example's row."""
    if generators is None or isinstance(generators, torch.Generator):
        return fill(torch.empty(shape, dtype=x.dtype, device=x.device), generator=generators)
    rows = torch.empty(shape, dtype=x.dtype)
    for row, generator in zip(rows, generators, strict=True):
        fill(row, generator=generator)
    return rows.to(x.device)


class LinfBall(Ball):
    """Images no pixel of which differs from the clean one by more than eps."""

    def __init__(self, x: Tensor, eps: float) -> None:
        super().__init__(x, eps)
        exact = self._x.double()
        self._low = self._towards_x((exact - eps).clamp_(min=0))
        self._high = self._towards_x((exact + eps).clamp_(max=1))

    def _towards_x(self, bound: Tensor) -> Tensor:
        """The float64 ``bound`` as float32, one float nearer to x where rounding left the ball."""
        rounded = bound.to(self._x.dtype)
        outside = (rounded.double() - self._x.double()).abs_() > self._eps
        return torch.where(outside, torch.nextafter(rounded, self._x), rounded)

    def project(self, x_adv: Tensor) -> Tensor:
        """The nearest images inside the ball."""
        return torch.clamp(x_adv, self._low, self._high)

    def _noise(self, generators: Generators) -> Tensor:
        def fill(noise: Tensor, generator: torch.Generator | None) -> Tensor:
            return noise.uniform_(-self._eps, self._eps, generator=generator)

        return drawn(self._x.shape, self._x, generators, fill)

    def _direction(self, gradient: Tensor) -> Tensor:
        return torch.sign(gradient)  # 0 for a NaN


class L2Ball(Ball):
    """Images whose difference from the clean one has a Euclidean norm of at most eps.

    :meth:`project` scales the difference δ (d numbers) to the length ``radius``. With u = 2^-24 the
    scaled δ has a relative error of 2u, measuring it again adds u: 3u < 2^-22 · eps. Its sum with x
    is rounded by at most 2^-25 a pixel, √d · 2^-25 in the norm; cutting to [0, 1] only shortens δ.
    Hence ``radius`` = eps (1 − 2^-21) − √d · 2^-25 (where that is negative, the clean image): what
    is scaled to it ends within ``keep`` = eps (1 − 2^-22), where images are left bit for bit; the
    rest up to eps covers the rounding of δ itself and of the float64 sums.
    """

    def __init__(self, x: Tensor, eps: float) -> None:
        super().__init__(x, eps)
        self._dims = tuple(range(1, x.dim()))
        self._size = math.prod(x.shape[1:])
        self._keep = eps * (1 - 2**-22)
        self._radius = max(0.0, eps * (1 - 2**-21) - math.sqrt(self._size) * 2**-25)

    def project(self, x_adv: Tensor) -> Tensor:
        """Images scaled towards x into the ball, then cut to [0, 1]."""
        delta = x_adv - self._x
        length = torch.linalg.vector_norm(delta, dim=self._dims, keepdim=True, dtype=torch.float64)
        factor = (self._radius / length.clamp_min(_TINY)).to(delta.dtype)
        inside = length <= self._keep
        return torch.where(inside, x_adv, self._x + factor * delta).clamp_(0, 1)

    def _noise(self, generators: Generators) -> Tensor:
        x = self._x
        normal = drawn(x.shape, x, generators, torch.Tensor.normal_)
        shape = (len(x),) + (1,) * len(self._dims)
        uniform = drawn(shape, x, generators, torch.Tensor.uniform_)
        # The share of the ball's volume within radius r is (r / eps)^d.
        length: Tensor = self._eps * uniform.pow(1 / self._size)
        return length * self._unit(normal)

    def _direction(self, gradient: Tensor) -> Tensor:
        return self._unit(torch.nan_to_num(gradient, nan=0.0))

    def _unit(self, vectors: Tensor) -> Tensor:
        """``vectors``, finite, scaled to a norm of 1 each; zero vectors stay zero."""
        # A confident network has gradients whose squares underflow: scale to a peak of 1 first.
        peak = vectors.abs().amax(dim=self._dims, keepdim=True).clamp_min_(_TINY)
        scaled = vectors / peak
        length: Tensor = torch.linalg.vector_norm(scaled, dim=self._dims, keepdim=True)
        return scaled / length.clamp_min_(_TINY)


_BALLS: Mapping[Norm, Callable[[Tensor, float], Ball]] = {"linf": LinfBall, "l2": L2Ball}


def make_ball(norm: Norm, x: Tensor, eps: float) -> Ball:
    """The ball of radius ``eps`` [1 = the full pixel range] around images (B, C, H, W), float32 in
    [0, 1]. Raises ValueError for an unknown norm, and for an eps that is negative or not finite."""
    if norm not in _BALLS:
        raise ValueError(f"norm {norm!r} is not one of {', '.join(_BALLS)}")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps {eps} must be a finite number, 0 or more")
    return _BALLS[norm](x, eps)
