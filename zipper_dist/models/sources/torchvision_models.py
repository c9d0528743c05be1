"""``torchvision:NAME``: the image classifiers of torchvision."""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import nn

from zipper_dist.errors import UserError, in_one_line
from zipper_dist.models.sources import SOURCES
from zipper_dist.models.sources.factory import KeywordFactory, named_parameters
from zipper_dist.models.sources.pretrained import Pretrained
from zipper_dist.models.spec import ModelSpec


class TorchvisionModels:
    """The networks that ``torchvision.models.list_models`` lists."""

    def factory(self, name: str, option: str) -> KeywordFactory:
        """See :class:`~zipper_dist.models.sources.Source`. Options are arguments of the network's
        class, and win over those that the function called ``name`` gives it."""
        from torchvision import models

        names = models.list_models(module=models)
        if name not in names:
            alike = ", ".join(difflib.get_close_matches(name, names)) or "resnet18, vit_b_16 …"
            raise UserError(f"{option}: torchvision has no such classifier; there are {alike}")
        builder = models.get_model_builder(name)
        kind: type[nn.Module] = get_type_hints(builder)["return"]
        takes = named_parameters(kind)

        def make(**given: Any) -> nn.Module:
            if unknown := sorted(given.keys() - set(takes)):
                raise TypeError(f"no such option: {', '.join(unknown)}")
            if "aux_logits" in takes:  # networks with these give no tensor in training
                given = {"aux_logits": False, **given}
            with _arguments_replaced(kind, given):
                network: nn.Module = builder(weights=None)
            return network

        return KeywordFactory(make, takes)

    def pretrained(self, spec: ModelSpec, which: str, option: str) -> Pretrained:
        """See :class:`~zipper_dist.models.sources.Source`: DEFAULT, IMAGENET1K_V1 …, from the cache
        of torch.hub or by a download into it."""
        from torchvision import models

        known = models.get_model_weights(spec.arch.partition(":")[2])
        if which not in known.__members__:
            names = ", ".join(known.__members__)
            raise UserError(f"{option}: {spec.arch} has the weights {names}")
        weights = known[which]
        try:
            state = weights.get_state_dict(map_location="cpu", progress=False, weights_only=True)
        except Exception as error:  # of the network, the disk or a damaged file
            file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
            raise UserError(
                f"{option}: cannot be had: {in_one_line(error)}. Put {file.name} (from "
                f"{weights.url}) in {file.parent}, or give such a file with --model.weights FILE"
            ) from None
        takes = self.factory(spec.arch.partition(":")[2], option).takes
        if "transform_input" in takes and not spec.options.get("transform_input", False):
            # They are for images in [-1, 1], to which that option brings ImageNet's.
            return Pretrained(state, (0.5,) * 6)
        images = weights.transforms()
        return Pretrained(state, (*images.mean, *images.std))


@contextmanager
def _arguments_replaced(kind: type[nn.Module], given: Mapping[str, Any]) -> Iterator[None]:
    """For the duration, a ``kind`` that is made gets the arguments ``given``, whatever else it is
    made with; the functions of torchvision refuse those that they set themselves."""
    original: Callable[..., None] = kind.__init__
    signature = inspect.signature(original)

    def replaced(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind_partial(self, *args, **kwargs)
        bound.arguments.update(given)
        original(*bound.args, **bound.kwargs)

    kind.__init__ = replaced  # type: ignore[method-assign]
    try:
        yield
    finally:
        kind.__init__ = original  # type: ignore[method-assign]


SOURCES.register("torchvision")(TorchvisionModels())
