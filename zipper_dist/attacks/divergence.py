"""PGD on the change of the prediction, without the label: the attack of TRADES.

Source: Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, "Theoretically Principled Trade-off between
Robustness and Accuracy", ICML 2019, algorithm 1.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ascent import Loss, logits_at
from zipper_dist.attacks.pgd import PGD
from zipper_dist.config.schema import Start


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(p(x) ‖ p(x′)) of each image, (B,), from logits of both (B, classes); in float32."""
    p, q = (F.log_softmax(logits.float(), 1) for logits in (clean, attacked))
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)


@dataclass(frozen=True)
class DivergencePGD(PGD):
    """PGD from ``x`` + 0.001 · N(0, 1), in the ball, on :func:`divergence`, without labels. At the
    clean image itself the divergence is at its minimum, so that its gradient there is 0."""

    begin: Start = "normal"
    """See :class:`~zipper_dist.attacks.pgd.PGD`."""

    def loss(self, network: Network, x: Tensor, y: Tensor) -> Loss:
        """See :class:`~zipper_dist.attacks.base.Iterated`."""
        clean = logits_at(network, x)
        return lambda logits: divergence(clean, logits).sum()
