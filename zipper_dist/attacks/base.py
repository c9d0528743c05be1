"""What an attack is, how a person calls one, and where they are registered.

An attack is a frozen dataclass of its options. ``PGD(eps=8 / 255)(model, x, y)`` attacks a batch;
:meth:`Attack.iterates` is the same in steps, for callers that have other work to do in between.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ascent import last
from zipper_dist.attacks.ball import make_ball
from zipper_dist.attacks.draws import Blocks, Draws, ExampleDraws
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
        """The attack under a threat model, with those of ``options`` that it has and that are
        not None."""
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
        return {"attack": self.name, **asdict(self), **_source_of(type(self))}

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
        """Yield the images (B, C, H, W) so far, after each gradient step where that is possible.

        There is at least one, and the last is the result. Between two of them torch's modes (grad
        mode, autocast) are the caller's: no context manager may be open at a yield.

        ``network``: images → logits, in eval mode. ``x``: clean images (B, C, H, W), float32 in
        [0, 1]; ``y``: labels (B,), int64.
        """
        raise NotImplementedError

    def run(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """The last of :meth:`iterates`."""
        return last(self.iterates(network, x, y, draws))

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, seed: int = 0) -> Tensor:
        """Attack a batch of images: the adversarial ones, (B, C, H, W), inside the ball.

        Args:
            model: any network of images in [0, 1]; it is in eval mode and its weights are frozen
                for the duration, and afterwards it is as it was.
            x: clean images (B, C, H, W), floating-point numbers in [0, 1].
            y: labels (B,), integers.
            seed: of the random draws. Each example has draws of its own, by its place in ``x``.

        Raises:
            ValueError: images, labels, norm or radius cannot be used.
        """
        x, y = _checked(x, y)
        result = x.clone()
        going = torch.ones(len(x), dtype=torch.bool, device=x.device)
        with frozen_eval_mode(model):
            for part in self.parts:
                if part.only_right:
                    with torch.no_grad():
                        going &= model(x).argmax(1) == y
                for rows in _batches(going, part.one_block):
                    draws = _draws(seed, part, len(x)).of(rows, 0)
                    task = Task(part, (model,), model, draws)
                    steps = task.steps(x[rows], y[rows])
                    while (found := advance(steps)) is None:
                        pass
                    result[rows], broken = found
                    going[rows[broken.to(rows.device)]] = False
        return result


ATTACKS: Registry[type[Attack]] = Registry("attack", "zipper_dist.attacks")
"""The attacks by name, without the number of steps that a name may end with."""


@dataclass(frozen=True)
class Iterated(Attack):
    """An attack of a number of gradient steps."""

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


@dataclass(frozen=True, eq=False)
class Task:
    """One attack on one batch: what it differentiates, and what decides.

    ``networks`` are attacked in turn, each on the examples that are not broken yet; ``verdict``
    says which are.
    """

    attack: Attack
    networks: Sequence[Network]
    verdict: Network
    draws: ExampleDraws

    def steps(self, x: Tensor, y: Tensor) -> Steps:
        """Attack images ``x`` with labels ``y``, yielding between gradient steps.

        Returns the images (B, C, H, W), exactly inside the ball, and which of them are
        misclassified: bool (B,), on the CPU.
        """
        attack = self.attack
        ball = make_ball(attack.norm, x, attack.eps)
        result, standing = x.clone(), torch.arange(len(x), device=x.device)
        for network in self.networks:
            for restart in range(attack.starts):
                if len(standing) == 0:
                    break
                clean, labels = x[standing], y[standing]
                found = clean
                draws = self.draws.of(standing, restart)
                for found in attack.iterates(network, clean, labels, draws):  # noqa: B007
                    yield
                # Attacks of other origin keep the ball only up to rounding, and may go astray.
                found = torch.where(found.isfinite(), found, clean).detach()
                result[standing] = found
                result = ball.project(result)
                with torch.no_grad():
                    right = self.verdict(result[standing]).argmax(1) == labels
                standing = standing[right]
        broken = torch.ones(len(x), dtype=torch.bool)
        broken[standing.cpu()] = False
        return result, broken


Steps = Generator[None, None, tuple[Tensor, Tensor]]
"""What :meth:`Task.steps` gives."""


def advance(steps: Steps) -> tuple[Tensor, Tensor] | None:
    """Do one piece of work; what ``steps`` return if it was the last."""
    try:
        next(steps)
    except StopIteration as end:
        found: tuple[Tensor, Tensor] = end.value
        return found
    return None


def _draws(seed: int, attack: Attack, count: int) -> ExampleDraws:
    numbers = torch.arange(count)
    return ExampleDraws(seed, attack.name, Blocks(count), numbers, numbers)


def _batches(going: Tensor, one_block: bool) -> Iterator[Tensor]:
    """The rows where ``going`` holds: all together, or block by block."""
    rows = going.nonzero().flatten()
    if len(rows) == 0:
        return
    if not one_block:
        yield rows
        return
    blocks = Blocks(len(going))
    for block in range(len(blocks)):
        span = blocks.span(block)
        own = rows[(rows >= span.start) & (rows < span.stop)]
        if len(own) > 0:
            yield own


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images as float32 without a graph, and labels as int64 on their device."""
    if not x.is_floating_point() or x.dim() != 4:
        raise ValueError(f"x must be floating-point images (B, C, H, W), not {_describe(x)}")
    if y.is_floating_point() or y.shape != x.shape[:1]:
        raise ValueError(f"y must be {len(x)} integer labels (B,), not {_describe(y)}")
    if len(x) > 0 and not (float(x.min()) >= 0 and float(x.max()) <= 1):
        raise ValueError("x must lie in [0, 1]: let the model normalise, not the images")
    return x.detach().float(), y.to(x.device, torch.int64)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _source_of(kind: type) -> dict[str, str]:
    """For an attack from outside the package, the checksum of its file: part of its settings."""
    if kind.__module__.startswith("zipper_dist."):
        return {}
    try:
        content = Path(inspect.getfile(kind)).read_bytes()
    except (OSError, TypeError):
        return {"source": kind.__module__}
    return {"source": hashlib.sha256(content).hexdigest()[:16]}
