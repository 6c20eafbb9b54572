"""Random changes to training pairs: the same geometry for image and labels."""

import numpy as np

from seglib.augment.colors import change_colors
from seglib.augment.geometry import cut_window, draw_window, find_class
from seglib.augment.mixing import blend_pairs, draw_box, paste_box, paste_class, soften
from seglib.augment.options import Augmentation, choose_augmentation

__all__ = ["Augmentation", "augment_pair", "choose_augmentation"]


def augment_pair(
    image,
    labels,
    *,
    seed,
    epoch,
    index,
    augmentation=None,
    ignore_label=None,
    partners=None,
):
    """Change a pair at random: geometry, colours, blur, noise, then a mix with another pair.

    The result is a function of the arguments alone, so that a resumed run sees what an
    undisturbed one would have seen, whoever computes it and when.

    Args:
        image: uint8 array `(height, width, 3)`.
        labels: int array `(height, width)`.
        seed, epoch, index: ints ≥ 0, of the run, the epoch and the pair's place in it.
        augmentation: Augmentation; None for its defaults.
        ignore_label: int or None, given to what lies outside the picture. With None, nothing
            outside is shown: the window is moved and, if need be, made smaller.
        partners: PreparedSplit that mixup, CutMix and pasting take the second pair from.

    Returns:
        `(image, labels)`, uint8 `(*size, 3)` and `(*size)` of the labels' dtype; with mixup,
        the labels are float32 `(*size, num_classes)`, the share of each class, all 0 where a
        pixel is ignored. Arrays may be read-only.

    Raises:
        ValueError: the shapes or dtypes do not fit, or there are no `partners` to mix with.

    Example:
        >>> image, labels = np.full((1, 2, 3), 9, np.uint8), np.array([[0, 1]])
        >>> augment_pair(image, labels, seed=0, epoch=0, index=0)[1]
        array([[0, 1]])
        >>> augment_pair(image, labels, seed=0, epoch=0, index=1)[1]
        array([[1, 0]])
    """
    augmentation = augmentation or Augmentation()
    _check_pair(image, labels, augmentation, ignore_label, partners)
    stream = [seed, epoch, index]
    pair = _change_pair(image, labels, np.random.default_rng(stream), augmentation, ignore_label)
    if not augmentation.mixes:
        return pair
    # Another stream, so that what is drawn for a pair is the same whether it is mixed or not.
    return _mix_pair(*pair, np.random.default_rng([*stream, 1]), augmentation, ignore_label,
                     partners)  # fmt: skip


def _change_pair(image, labels, random, augmentation, ignore_label):
    matrix = draw_window(random, labels, augmentation, ignore_label)
    size = augmentation.size or labels.shape
    image, labels = cut_window(image, labels, matrix, size=size, ignore_label=ignore_label)
    return change_colors(random, image, augmentation), labels


def _mix_pair(image, labels, random, augmentation, ignore_label, partners):
    """Mixup, CutMix, a pasted class or none of them."""

    def draw_partner():
        partner = partners[int(random.integers(len(partners)))]
        return _change_pair(*partner, random, augmentation, ignore_label)

    chosen = random.random()
    num_classes = partners.classes.num_classes
    if chosen < augmentation.mixup:
        share = random.beta(augmentation.mixup_alpha, augmentation.mixup_alpha)
        return blend_pairs((image, labels), draw_partner(), share=share,
                           num_classes=num_classes, ignore_label=ignore_label)  # fmt: skip
    if chosen < augmentation.mixup + augmentation.cutmix:
        share = random.beta(augmentation.cutmix_alpha, augmentation.cutmix_alpha)
        box = draw_box(random, labels.shape, 1 - share)
        image, labels = paste_box((image, labels), draw_partner(), box)
    elif chosen < augmentation.mixup + augmentation.cutmix + augmentation.paste:
        partner = draw_partner()
        weights = augmentation.paste_weights
        label = find_class(partner[1], random.random(), weights, ignore_label)
        if label is not None:
            image, labels = paste_class((image, labels), partner, label)
    if augmentation.mixup:  # all pairs of a batch are of one kind
        labels = soften([(labels, 1.0)], num_classes=num_classes, ignore_label=ignore_label)
    return image, labels


def _check_pair(image, labels, augmentation, ignore_label, partners):
    fit = image.shape == (*labels.shape, 3) and labels.ndim == 2
    if not fit or image.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise ValueError(
            "expected a uint8 image (height, width, 3) and integer labels (height, width), "
            f"received {image.dtype} {image.shape} and {labels.dtype} {labels.shape}"
        )
    if ignore_label is not None and not 0 <= ignore_label <= np.iinfo(labels.dtype).max:
        raise ValueError(
            f"labels of {labels.dtype} cannot hold the ignored label {ignore_label}: "
            "give labels of a larger dtype"
        )
    if augmentation.mixes and partners is None:
        raise ValueError(
            "mixup, CutMix and pasting need other pairs: expected partners to be a PreparedSplit, "
            "received None; give one, or an Augmentation with mixup=0, cutmix=0 and paste=0"
        )
