"""How a network is run: precision, compilation, the attack's view of it. Weights, optimizer state,
averages, BatchNorm statistics and losses are fp32 in every precision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zipper_dist.accel.compilation import compile_network
from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.accel.layout import PlainLayout
from zipper_dist.accel.side_by_side import lay_side_by_side
from zipper_dist.accel.surrogate import Surrogate, make_surrogate
from zipper_dist.activity import doing
from zipper_dist.config.schema import Precision
from zipper_dist.errors import UserError

Network = Callable[[Tensor], Tensor]


class _Bf16(nn.Module):
    """Runs a network under bf16 autocast; the logits come out as fp32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()


@dataclass
class AttackedNetwork:
    """The network that attacks on ``model`` differentiate: its surrogate if it has one."""

    model: nn.Module
    surrogate: Surrogate | None
    fixed_shape: bool = False  # another batch size costs a compilation

    @contextmanager
    def now(self) -> Iterator[Network]:
        """The network with the weights of now, in eval mode and frozen, for the duration."""
        with doing("attack"):
            if self.surrogate is None:
                with frozen_eval_mode(self.model):
                    yield self.model
            else:
                self.surrogate.refresh()
                yield self.surrogate


@dataclass(frozen=True)
class Acceleration:
    """A resolved precision, whether networks are compiled, and whether training steps get images in
    the plain memory layout."""

    precision: Precision = "fp32"
    compiled: bool = False
    plain_layout: bool = False

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """For the duration, fp32 products use TF32 only if that is the precision."""
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = self.precision == "tf32"
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before

    def training_network(self, model: nn.Module) -> nn.Module:
        """``model`` as a training step calls it; on a CPU it itself gets faster convolutions."""
        lay_side_by_side(model)
        network = self._in_precision(model)
        return self._compile(PlainLayout(network) if self.plain_layout else network)

    def attacked_network(self, model: nn.Module) -> AttackedNetwork:
        """``model`` as an attack in training sees it."""
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        surrogate = make_surrogate(model, dtype, self._compile)
        return AttackedNetwork(self._in_precision(model), surrogate, self.compiled)

    def _in_precision(self, model: nn.Module) -> nn.Module:
        return _Bf16(model) if self.precision == "bf16" else model

    def _compile(self, network: nn.Module) -> nn.Module:
        return compile_network(network) if self.compiled else network


def has_native_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 itself: CUDA capability 8 and up; AMX, AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision meant on ``device``: ``auto`` is bf16 where that is native, else fp32."""
    if precision == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    if precision == "tf32" and not (device.type == "cuda" and has_native_bf16(device)):
        raise UserError(
            f"--precision tf32: {device} has no TF32 (it takes a GPU of CUDA capability 8 or more);"
            " use fp32 or bf16"
        )
    return precision
