"""Minibatches: what is in them, and how they are augmented, by a file here for each augmentation.

A new one is a class derived from :class:`Augmentation`, registered by name in a file of this
package, or given from outside: ``--data.augment flip,my_package.module:MyAugmentation``.
"""

from zipper_dist.data.minibatches.augment import AUGMENTATIONS, Augmentation, Augmenter, find
from zipper_dist.data.minibatches.batch import Minibatch
from zipper_dist.data.minibatches.loader import Loader, Share

__all__ = ["AUGMENTATIONS", "Augmentation", "Augmenter", "Loader", "Minibatch", "Share", "find"]
