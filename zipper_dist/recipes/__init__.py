"""The named recipes: functions that return the options of a run.

A name is ``<data>[-<arch>][-<method>]``; without a method it is Zipper. Published hyper-parameters
come from the public releases of Zipper for CIFAR-10 (ResNet-18 and WRN-32-10) and of TRADES for the
MNIST network and attack; the others are ours, as their docstrings say.
"""

from zipper_dist.recipes.registry import METHODS, RECIPES, choices, recipe, zippers

__all__ = ["METHODS", "RECIPES", "choices", "recipe", "zippers"]
