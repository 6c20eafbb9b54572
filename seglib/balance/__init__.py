"""What makes up for classes that are rare: weights, and which pairs are shown how often."""

from seglib.balance.comparing import choose_method, compare_methods, find_rare
from seglib.balance.patches import BlendedSplit, oversample_patches
from seglib.balance.sampling import image_weights
from seglib.balance.weights import METHODS, class_weights, weight_table

__all__ = [
    "METHODS",
    "BlendedSplit",
    "choose_method",
    "class_weights",
    "compare_methods",
    "find_rare",
    "image_weights",
    "oversample_patches",
    "weight_table",
]
