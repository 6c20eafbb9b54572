"""Random over-sampling: images that hold rare classes are drawn more often."""

from seglib.balance.weights import check_counts, find_present


def image_weights(counts, *, ignore_label=None):
    """Weigh each image by how much it holds of each class, a rare class counting as a common one.

    It is the chance of an image when first a class is drawn, each as likely, and then one of
    the class's pixels. The mean is 1.

    Args:
        counts: int array `(num_images, num_classes)`, pixels, as `statistics.count_pixels`
            returns it.
        ignore_label: int or None. The class that is not drawn.

    Returns:
        float64 array `(num_images,)`; 0 for an image without a scored pixel.

    Raises:
        ValueError: `counts` has a wrong shape, is negative or holds no scored pixel.

    Example:
        >>> image_weights([[4, 0], [4, 0], [4, 4]]).round(3)
        array([0.5, 0.5, 2. ])
    """
    counts = check_counts(counts)
    scored = counts[:, find_present(counts, ignore_label)]
    return (scored / scored.sum(axis=0)).mean(axis=1) * len(counts)
