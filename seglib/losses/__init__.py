"""Losses for label maps: from logits, with class weights and an ignored label.

The truth is a label map, int `(batch, height, width)` or `(batch, height, width, 1)`, or, as
mixup makes it, the share of each class, float `(batch, height, width, num_classes)`. A pixel of
shares counts by their sum: an ignored one is all zeros.
"""

from seglib.losses.overlaps import Dice, LovaszSoftmax, Tversky
from seglib.losses.pixels import CrossEntropy, Focal
from seglib.losses.sums import CrossEntropyDice, OneHotLoss, adapt_loss
from seglib.losses.tasks import BoundaryLoss, PresenceLoss, UncertainLoss

__all__ = [
    "BoundaryLoss",
    "CrossEntropy",
    "CrossEntropyDice",
    "Dice",
    "Focal",
    "LovaszSoftmax",
    "OneHotLoss",
    "PresenceLoss",
    "Tversky",
    "UncertainLoss",
    "adapt_loss",
]
