"""``timm:NAME``: the image classifiers of timm, an extra."""

import difflib
from typing import Any, get_type_hints

from torch import nn

from zipper_dist.errors import UserError, in_one_line
from zipper_dist.models.sources import SOURCES
from zipper_dist.models.sources.factory import KeywordFactory, named_parameters
from zipper_dist.models.sources.pretrained import Pretrained
from zipper_dist.models.spec import ModelSpec
from zipper_dist.registry import require

LOADING = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
"""Arguments of ``timm.create_model`` that read files or the network: no options, which a file of
weights may name as well."""


class TimmModels:
    """The networks that ``timm.list_models`` lists."""

    def factory(self, name: str, option: str) -> KeywordFactory:
        """See :class:`~zipper_dist.models.sources.Source`; options are those that
        ``timm.create_model`` passes on."""
        timm = _timm(option)
        plain = name.partition(".")[0]  # what follows names pretrained weights
        if not timm.is_model(plain):
            alike = difflib.get_close_matches(plain, timm.list_models())
            there = ", ".join(alike) or "convnext_atto, vit_tiny_patch16_224 …"
            raise UserError(f"{option}: timm has no such classifier; there are {there}")
        takes = ["num_classes", "in_chans"]
        kind = get_type_hints(timm.model_entrypoint(plain)).get("return")
        if isinstance(kind, type):
            takes += [each for each in named_parameters(kind) if each not in takes]

        def make(**given: Any) -> nn.Module:
            if refused := sorted(given.keys() & LOADING):
                raise TypeError(f"no such option: {', '.join(refused)}")
            network: nn.Module = timm.create_model(name, pretrained=False, **given)
            return network

        return KeywordFactory(make, takes)

    def pretrained(self, spec: ModelSpec, which: str, option: str) -> Pretrained:
        """See :class:`~zipper_dist.models.sources.Source`; timm fits them to other channels and
        image sizes itself, where it can."""
        timm, name = _timm(option), spec.arch.partition(":")[2]
        if which != "pretrained":
            raise UserError(f"{option}: give timm:pretrained; --model.arch says which (NAME.TAG)")
        about = timm.get_pretrained_cfg(name)
        if about is None or not about.has_weights:
            raise UserError(f"{option}: timm has no weights for {name}")
        given = self.factory(name, option).given(spec)
        given.pop("num_classes", None)  # the head of the weights, to tell whether it fits
        try:
            state = timm.create_model(name, pretrained=True, **given).state_dict()
        except Exception as error:  # of the network, the disk or a damaged file
            hub = f"model.safetensors of {about.hf_hub_id} on Hugging Face's hub"
            places = " or ".join(filter(None, (about.url, about.hf_hub_id and hub)))
            raise UserError(
                f"{option}: cannot be had: {in_one_line(error)}: fetch {places}, and give the file "
                "with --model.weights FILE"
            ) from None
        return Pretrained(state, (*about.mean, *about.std))


def _timm(option: str) -> Any:
    """The package; UserError about ``option`` where it is missing."""
    require(["timm"], "timm", option)
    import timm

    return timm


SOURCES.register("timm")(TimmModels())
