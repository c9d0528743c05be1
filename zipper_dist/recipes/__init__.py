"""The named recipes: functions that return the options of a run.

A name is ``<data>[-<arch>][-<method>]``; without a method it is Zipper. Published hyper-parameters
come from the public releases of Zipper (CIFAR-10) and of TRADES (MNIST); others are ours.
"""

from zipper_dist.recipes.registry import METHODS, RECIPES, choices, recipe, zippers

__all__ = ["METHODS", "RECIPES", "choices", "recipe", "zippers"]
