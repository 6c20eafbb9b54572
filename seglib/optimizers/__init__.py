"""What changes the weights: AdamW, and Muon, which learns more from each step."""

from seglib.optimizers.adamw import AdamW
from seglib.optimizers.muon import Muon

__all__ = ["AdamW", "Muon", "create_optimizer"]

OPTIMIZERS = {"adamw": AdamW, "muon": Muon}


def create_optimizer(name, learning_rate, **options):
    """Create an optimizer by its name.

    Args:
        name: "adamw" or "muon".
        learning_rate, options: of the optimizer.

    Raises:
        ValueError: there is no such optimizer.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            f"expected an optimizer of {', '.join(OPTIMIZERS)}, or a keras optimizer, "
            f"received {name!r}"
        )
    return OPTIMIZERS[name](learning_rate, **options)
