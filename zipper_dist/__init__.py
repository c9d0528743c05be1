"""Zipper: image classifiers that are both accurate and robust, trained on one or two devices."""

__version__ = "0.1.0"
