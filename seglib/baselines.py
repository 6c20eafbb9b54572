"""What can be had without a network: the figures that a model has to beat."""

import numpy as np

from seglib.system import show_progress


def score_colors(train, val, *, max_pixels=20_000, seed=0):
    """Score a linear classifier that sees one pixel's colour and nothing else.

    It is a multinomial logistic regression on RGB. What it reaches is what colour
    alone gives away; the rest has to be learned from shape, texture and place.

    Args:
        train, val: splits of one class table, not empty.
        max_pixels: int, pixels drawn from the scored ones of each.
        seed: int, of which pixels are drawn.

    Returns:
        float, share of the validation pixels that it labels rightly.

    Raises:
        ValueError: a split is empty.
    """
    from sklearn.linear_model import LogisticRegression

    colors, labels = _draw_pixels(train, max_pixels, np.random.default_rng([seed, 0]))
    val_colors, val_labels = _draw_pixels(val, max_pixels, np.random.default_rng([seed, 1]))
    if len(np.unique(labels)) == 1:
        return float((val_labels == labels[0]).mean())
    model = LogisticRegression(max_iter=500).fit(colors, labels)
    return float((model.predict(val_colors) == val_labels).mean())


def _draw_pixels(split, max_pixels, random):
    """Colours in [-1, 1] and labels of scored pixels, equally many of each image."""
    if not len(split):
        raise ValueError("the split is empty: expected at least one pair")
    share = -(-max_pixels // len(split))
    colors, labels = [], []
    for i in show_progress(range(len(split)), desc="reading", unit="image"):
        image, ids = split[i]
        places = np.flatnonzero(np.isin(ids, split.classes.scored_ids))
        places = random.permutation(places)[:share]
        colors.append(image.reshape(-1, 3)[places] / 127.5 - 1)
        labels.append(ids.ravel()[places])
    return np.concatenate(colors), np.concatenate(labels)
