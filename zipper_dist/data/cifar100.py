"""CIFAR-100: 60,000 colour images of 32×32 pixels in 100 classes."""

from zipper_dist.data.registry import DATASETS
from zipper_dist.data.torchvision_sets import CifarSet

DATASETS.register("cifar100")(CifarSet("cifar100", (32, 32, 3), 100))
