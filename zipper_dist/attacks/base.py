"""What an attack is, how a person calls one, and where they are registered."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ascent import Direction, Loss, ascend, summed_cross_entropy
from zipper_dist.attacks.ball import Ball, make_ball
from zipper_dist.attacks.draws import BLOCK_SIZE, Blocks, Draws, ExampleDraws
from zipper_dist.attacks.verdict import Unanswered, answers
from zipper_dist.config.threat import Norm, ThreatModel
from zipper_dist.registry import Registry

AnyAttack = TypeVar("AnyAttack", bound="Attack")


@dataclass(frozen=True)
class Attack:
    """An untargeted attack within a norm ball; subclasses add their options as fields."""

    eps: float = 8 / 255
    """Radius of the ball, in the norm [1 = the full pixel range]."""
    norm: Norm = "linf"
    """Norm of the ball."""

    family: ClassVar[str] = ""
    """Its name, less the number of steps; default: that of the class, in small letters."""
    one_block: ClassVar[bool] = False
    """Whether a batch must hold examples of one block only."""
    only_right: ClassVar[bool] = False
    """Whether it takes only images that are classified right."""

    @classmethod
    def under(cls: type[AnyAttack], threat: ThreatModel, **options: Any) -> AnyAttack:
        """The attack under a threat model; options that it lacks or that are None are ignored."""
        known = {field.name for field in fields(cls)}
        given = {k: v for k, v in options.items() if k in known and v is not None}
        return cls(eps=threat.eps, norm=threat.norm, **given)

    @property
    def name(self) -> str:
        """As in ``--attacks``; also part of the address of its random draws."""
        return self.family or type(self).__name__.lower()

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides its outcomes, besides network, images, seed and blocks, as JSON."""
        facts, kind = {"attack": self.name, **asdict(self)}, type(self)
        if not kind.__module__.startswith("zipper_dist."):  # then its code decides, too
            try:
                content = Path(inspect.getfile(kind)).read_bytes()
                facts["source"] = hashlib.sha256(content).hexdigest()[:16]
            except (OSError, TypeError):
                facts["source"] = kind.__module__
        return facts

    @property
    def cost(self) -> int:
        """Forward passes an image that it takes at most, a gradient counted as two."""
        return 2

    @property
    def starts(self) -> int:
        """How often it starts, each time on the examples that are not broken yet."""
        return 1

    @property
    def parts(self) -> tuple[Attack, ...]:
        """The attacks that it consists of: an example that survives each of them is robust."""
        return (self,)

    def unsuitable(self, classes: int) -> str | None:
        """Why it cannot be run on a network of so many classes; None if it can."""
        return None

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """Yield the images (B, C, H, W) so far, after each step where possible; the last are the
        result. No context manager may be open at a yield. ``network``: images → logits, in eval
        mode; ``x``: clean images (B, C, H, W), float32 in [0, 1]; ``y``: labels (B,), int64."""
        raise NotImplementedError

    def run(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """The last of :meth:`iterates`."""
        *_, images = self.iterates(network, x, y, draws)
        return images

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, seed: int = 0) -> Tensor:
        """Attack a batch of images: the adversarial ones, (B, C, H, W), inside the ball.

        ``model``: for the duration in eval mode and frozen; ``x``: clean images (B, C, H, W), float
        in [0, 1]; ``y``: integer labels (B,). Each example has random draws by its place in ``x``.
        Raises ValueError where images, labels, norm or radius cannot be used.
        """
        x, y = _checked(x, y)
        result, everyone = x.clone(), torch.arange(len(x))
        going = torch.ones(len(x), dtype=torch.bool, device=x.device)
        with frozen_eval_mode(model):
            for part in self.parts:
                if part.only_right:
                    with torch.no_grad():
                        going &= answers(model(x)) == y
                draws = ExampleDraws(seed, part.name, Blocks(len(x)), everyone, everyone)
                size = BLOCK_SIZE if part.one_block else max(1, len(x))
                for rows in torch.split(everyone, size):
                    rows = rows.to(x.device)[going[rows]]
                    if len(rows) > 0:
                        own = draws.of(rows)
                        *_, end = in_steps(part, model, model, own, x[rows], y[rows])
                        assert end is not None
                        result[rows], found = end
                        going[rows[found.to(x.device) != y[rows]]] = False
        return result


ATTACKS: Registry[type[Attack]] = Registry("attack", "zipper_dist.attacks")
"""The attacks by name, without the number of steps that a name may end with."""


@dataclass(frozen=True)
class Iterated(Attack):
    """Ascent on the cross-entropy from the clean image; subclasses vary start, loss, direction."""

    step_size: float | None = None
    """Length of a step, in the norm [1 = the full pixel range]; None: 2.5 eps / steps."""
    steps: int = 20
    """Gradient steps."""

    @property
    def name(self) -> str:
        """See :class:`Attack`."""
        return f"{super().name}-{self.steps}"

    @property
    def step(self) -> float:
        """The length of a step [1 = the full pixel range]."""
        if self.step_size is not None:
            return self.step_size
        return ThreatModel(self.norm, self.eps).default_step_size(max(1, self.steps))

    @property
    def settings(self) -> dict[str, Any]:
        """See :class:`Attack`."""
        return super().settings | {"step_size": self.step}

    @property
    def cost(self) -> int:
        """See :class:`Attack`."""
        return 2 * self.steps * self.starts

    def start(self, ball: Ball, x: Tensor, draws: Draws) -> Tensor:
        """Where the first step starts: images (B, C, H, W) in the ball around ``x``."""
        return x

    def loss(self, network: Network, x: Tensor, y: Tensor) -> Loss:
        """What is ascended."""
        return summed_cross_entropy(y)

    def direction(self) -> Direction | None:
        """What is made of the gradients of one batch; None: nothing."""
        return None

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`Attack`."""
        ball = make_ball(self.norm, x, self.eps)
        start = self.start(ball, x, draws)
        loss, direction = self.loss(network, x, y), self.direction()
        if self.steps == 0:
            yield start
        yield from ascend(network, start, ball, loss, [self.step] * self.steps, direction)


def in_steps(
    attack: Attack, network: Network, verdict: Network, draws: ExampleDraws, x: Tensor, y: Tensor
) -> Iterator[tuple[Tensor, Tensor] | None]:  # fmt: skip
    """Attack images ``x`` (B, C, H, W) with labels ``y`` (B,) on ``network``, in steps.

    Yields None, and at the end the images, exactly inside the ball, and what ``verdict`` answers
    to each, as :func:`~zipper_dist.attacks.verdict.answers`: int64 (B,), on the CPU. Each start
    attacks those that are not broken yet.
    """
    ball = make_ball(attack.norm, x, attack.eps)
    result, standing = x.clone(), torch.arange(len(x), device=x.device)
    network, found = Unanswered(network, x, attack.norm, attack.eps), y.clone()

    def judge(rows: Tensor, images: Tensor) -> Tensor:
        """Put ``images`` in these rows of the result; the rows that stand all the same."""
        result[rows] = images
        result.copy_(ball.project(result))
        with torch.no_grad():
            found[rows] = answers(verdict(result[rows]))
        return rows[found[rows] == y[rows]]

    for restart in range(attack.starts):
        if len(standing) == 0:
            break
        clean, labels = x[standing], y[standing]
        images = clean
        own = draws.of(standing, restart)
        for images in attack.iterates(network, clean, labels, own):  # noqa: B007
            yield None
        if network.noticed():
            network.remembers = True  # with the same draws, it meets the same images again
            for _ in attack.iterates(network, clean, labels, own):
                yield None
            network.remembers = False
        # Attacks of other origin keep the ball only up to rounding, and may return NaN.
        standing = judge(standing, torch.where(images.isfinite(), images, clean).detach())
    unanswered = standing[network.found[standing]]
    if len(unanswered) > 0:
        judge(unanswered, network.images[unanswered])
    yield result, found.cpu()


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images as float32 without a graph, and labels as int64 on their device."""
    given = [f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (x, y)]
    if not x.is_floating_point() or x.dim() != 4:
        raise ValueError(f"x must be floating-point images (B, C, H, W), not {given[0]}")
    if y.is_floating_point() or y.shape != x.shape[:1]:
        raise ValueError(f"y must be {len(x)} integer labels (B,), not {given[1]}")
    if len(x) > 0 and not (float(x.min()) >= 0 and float(x.max()) <= 1):
        raise ValueError("x must lie in [0, 1]: let the model normalise, not the images")
    return x.detach().float(), y.to(x.device, torch.int64)
