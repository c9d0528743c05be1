"""The base learner: what it trains, and how its minibatch is cut into shards."""

from zipper_dist.training.learner.base import BaseLearner, ema_decay

__all__ = ["BaseLearner", "ema_decay"]
