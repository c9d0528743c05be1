"""Where networks of other packages come from, one file a source: ``SOURCE:NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zipper_dist.registry import Registry

if TYPE_CHECKING:
    from zipper_dist.models.sources.factory import KeywordFactory
    from zipper_dist.models.sources.pretrained import Pretrained
    from zipper_dist.models.spec import ModelSpec


class Source(Protocol):
    """A package of networks."""

    def factory(self, name: str, option: str) -> KeywordFactory:
        """The network ``name``; UserError about ``option`` where there is none, or no package."""

    def pretrained(self, spec: ModelSpec, which: str, option: str) -> Pretrained:
        """Weights for ``spec``, which is of this source, downloaded if need be; UserError about
        ``option`` where there are none ``which`` are called so, or that fails."""


SOURCES: Registry[Source] = Registry("source of networks", "zipper_dist.models.sources")
"""The sources by what stands before the colon."""


def source_of(arch: str) -> str:
    """What stands before the first colon of ``SOURCE:NAME``."""
    return arch.partition(":")[0]
