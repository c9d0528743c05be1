"""The networks, each in a small file of its own, and how one is built from its description."""

from zipper_dist.models.registry import NETWORKS, ModelSpec, build, check_network

__all__ = ["NETWORKS", "ModelSpec", "build", "check_network"]
