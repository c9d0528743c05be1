"""Notes what a training run asks of a GPU, part by part of an iteration."""

from __future__ import annotations

import ctypes
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from zipper_dist.accel.surrogate import Surrogate
from zipper_dist.activity import Recorder, recorded_by
from zipper_dist.attacks.ascent import ascend

COUNTERS = (
    "launches", "copies within", "copies to the GPU", "waiting copies to the GPU",
    "copies to the host", "waiting copies to the host", "waits",
)  # fmt: skip
"""What the stub counts, in its order."""

OF_LIBRARIES = {
    "convolution", "convolution_backward", "cudnn_convolution", "cudnn_batch_norm",
    "cudnn_batch_norm_backward", "addmm", "mm", "bmm", "baddbmm",
}  # fmt: skip
"""Operations of cuDNN and cuBLAS, which give shapes only."""

INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
"""Operations on rows by number or by mask."""

BETWEEN = "between iterations"
PARTS = (
    "data",
    "training step",
    "attack",
    "attack step",
    "refolding",
    "reading",
    "mixing",
    "all-reduce",
)
"""The parts of an iteration."""

Counts = dict[str, dict[str, dict[str, int]]]
"""By part, counter and operation."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up by part what operations ask of the GPU; gives those of libraries shapes only.

    What the host reads from a GPU, for runs to go on, is 1 or true everywhere, but for tensors of
    integers, which may be indices and are 0.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part = ""
        self.iteration = 0
        self._stub = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._found: dict[int, dict[str, dict[str, Counter[str]]]] = {}
        self._attributed = self._read()

    def counts(self) -> dict[int, Counts]:
        """What was seen, by iteration."""
        return {
            t: {
                part: {counter: dict(operations) for counter, operations in found.items()}
                for part, found in parts.items()
            }
            for t, parts in self._found.items()
        }

    def enter(self, part: str) -> None:
        """What comes now belongs to that part."""
        self._settle("outside of operations")
        self.part = part

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        on_gpu = [t for t in tensors if t.is_cuda]
        self._settle("outside of operations")
        if on_gpu and name in OF_LIBRARIES:
            if len(on_gpu) < len(tensors):
                raise RuntimeError(f"{name} mixes devices: {[str(t.device) for t in tensors]}")
            out = _shapes_of(func, args, kwargs, on_gpu[0].device)
            self._note("launches", name, _kernels(name, args))
        elif on_gpu and name == "nonzero":
            out = self._found_in(args[0], name)
        else:
            if name in INDEXING:
                args = (args[0], self._without_masks(args[1], name), *args[2:])
            out = func(*args, **kwargs)
        self._settle(name)
        if on_gpu and name == "_local_scalar_dense":
            return type(out)(1)
        if on_gpu and name in ("_to_copy", "copy_") and not out.is_cuda:
            out.fill_(out.dtype.is_floating_point or out.dtype == torch.bool)
        return out

    def _found_in(self, tensor: Tensor, operation: str) -> Tensor:
        """The indices of half as many elements as there are rows, where a GPU would say which."""
        self._note("waits", operation, 1)
        rows = max(1, len(tensor) // 2)
        return torch.zeros(rows, tensor.dim(), dtype=torch.int64, device=tensor.device)

    def _without_masks(self, indices: Sequence[Tensor | None], operation: str) -> list[Any]:
        """The indices, with numbers in place of masks on a GPU."""
        found: list[Tensor | None] = []
        for index in indices:
            if index is not None and index.is_cuda and index.dtype in (torch.bool, torch.uint8):
                found += self._found_in(index, operation).unbind(1)
            else:
                found.append(index)
        return found

    def _read(self) -> list[int]:
        counts = (ctypes.c_long * len(COUNTERS))()
        self._stub.dry_run_counts(counts)
        return list(counts)

    def _settle(self, operation: str) -> None:
        """What the stub has counted since the last call was done by that operation."""
        before, self._attributed = self._attributed, self._read()
        for counter, old, new in zip(COUNTERS, before, self._attributed, strict=True):
            self._note(counter, operation, new - old)

    def _note(self, counter: str, operation: str, count: int) -> None:
        if count > 0:
            parts = self._found.setdefault(
                self.iteration, defaultdict(lambda: defaultdict(Counter))
            )
            parts[self.part][counter][operation] += count


def _kernels(operation: str, args: Sequence[Any]) -> int:
    """How many kernels an operation of a library launches, at the least: one for each gradient."""
    return sum(args[-1]) if operation == "convolution_backward" else 1


def _shapes_of(func: Any, args: Any, kwargs: Any, device: torch.device) -> Any:
    """Tensors on the device, shaped and laid out as the results, with whatever in them."""

    def on_meta(value: Any) -> Any:
        return value.to("meta") if isinstance(value, Tensor) else value

    def here(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)

    args, kwargs = tree_map(on_meta, (args, kwargs))
    return tree_map(here, func(*args, **kwargs))


class _Parts(Recorder):
    """Tells a watch which part of an iteration the training loop is in."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._base = "before"
        self._within: list[str] = []

    def begin(self, activity: str, about: dict[str, Any]) -> None:
        if activity == "training step" and not self._within:
            self._base = "reading"
        outer = self._within[-1] if self._within else self._base
        # An attack of an evaluation, say, is a part of that, and not of the iteration.
        opens = outer in PARTS or (outer == BETWEEN and activity not in PARTS)
        self._within.append(activity if opens else outer)
        self._watch.enter(self._within[-1])

    def end(self) -> None:
        if self._within.pop() == "mixing":
            self._base = BETWEEN
        self._watch.enter(self._within[-1] if self._within else self._base)

    def begin_iteration(self, t: int) -> None:
        self._base = "data"
        self._watch.enter(self._base)
        self._watch.iteration = t

    def finish(self) -> None:
        pass


@contextmanager
def watched() -> Iterator[Watch]:
    """For the duration, what runs is watched."""
    watch = Watch()
    parts = _Parts(watch)

    refresh = Surrogate.refresh

    def watched_refresh(surrogate: Surrogate) -> None:
        parts.begin("refolding", {})
        refresh(surrogate)
        parts.end()

    def watched_ascend(*args: Any, **kwargs: Any) -> Iterator[Tensor]:
        images = ascend(*args, **kwargs)
        while True:
            parts.begin("attack step", {})
            try:
                image = next(images)
            except StopIteration:
                return
            finally:
                parts.end()
            yield image

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Surrogate, "refresh", watched_refresh))
        stack.enter_context(mock.patch("zipper_dist.attacks.base.ascend", watched_ascend))
        stack.enter_context(recorded_by(parts))
        yield stack.enter_context(watch)
