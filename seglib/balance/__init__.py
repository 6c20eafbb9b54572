"""What makes up for classes that are rare: weights, and which pairs are shown how often."""

from seglib.balance.sampling import image_weights
from seglib.balance.weights import METHODS, class_weights, weight_table

__all__ = ["METHODS", "class_weights", "image_weights", "weight_table"]
