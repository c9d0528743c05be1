"""CIFAR-10: 60,000 colour images of 32×32 pixels in 10 classes."""

from zipper_dist.data.registry import DATASETS
from zipper_dist.data.torchvision_sets import CifarSet

DATASETS.register("cifar10")(CifarSet("cifar10", (32, 32, 3), 10))
