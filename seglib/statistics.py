"""What is in the data: how much of each class, where, and in what images."""

import dataclasses
import typing

import numpy as np

from seglib.system import show_progress

if typing.TYPE_CHECKING:
    import pandas as pd

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601


@dataclasses.dataclass(frozen=True, eq=False)
class SplitStatistics:
    """What `measure_split` found.

    Args:
        counts: int64 array `(num_images, num_classes)`, pixels.
        frequency: DataFrame by class name, see `class_frequency`.
        imbalance_ratio: float, see `imbalance_ratio`.
        co_occurrence: DataFrame by class name, see `co_occurrence`.
        regions: DataFrame by class name, of 8-connected regions. `regions`: how
            many; `regions_per_image`: over the images that hold the class;
            `median_area`, `smallest_area`, `largest_area`: in pixels.
        location: float array `(num_classes, grid, grid)` in [0, 1]: share of a
            class in the pixels of a cell of the frame, mean over the images.
            Cells run over rows, then columns.
        images: DataFrame, a row an image. `height`, `width`: pixels;
            `brightness`, `contrast`: mean and standard deviation of the grey
            value in [0, 255]; `red`, `green`, `blue`: means in [0, 255];
            `sharpness`: variance of the Laplacian of the grey value.
    """

    counts: np.ndarray
    frequency: "pd.DataFrame"
    imbalance_ratio: float
    co_occurrence: "pd.DataFrame"
    regions: "pd.DataFrame"
    location: np.ndarray
    images: "pd.DataFrame"


def count_pixels(split, *, num_classes):
    """Count the pixels of each class in each image.

    Args:
        split: sequence of `(image, labels)`; labels are int arrays
            `(height, width)`, whose sizes may differ.
        num_classes: int. Ids outside `[0, num_classes)`, such as 255, are not counted.

    Returns:
        int64 array `(num_images, num_classes)`.

    Raises:
        ValueError: the split is empty, or labels are no 2-D int array.

    Example:
        >>> labels = np.array([[0, 1, 1], [255, 1, 0]], np.uint8)
        >>> count_pixels([(None, labels)], num_classes=3)
        array([[2, 3, 0]])
    """
    return np.stack([_count(labels, num_classes) for _, labels in _iterate(split)])


def measure_split(split, classes, *, grid=32):
    """Measure images and labels of a split, reading each pair once.

    Args:
        split: sequence of `(image, labels)`; image uint8 `(height, width, 3)`,
            labels int `(height, width)`. Sizes may differ.
        classes: ClassTable.
        grid: int, cells along each side of the frame in `location`.

    Returns:
        SplitStatistics.

    Raises:
        ValueError: the split is empty, or labels are no 2-D int array.

    Example:
        >>> from seglib.classes import ClassTable
        >>> table = ClassTable(["road", "car"], [(128, 64, 128), (64, 0, 128)])
        >>> labels = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], np.uint8)
        >>> found = measure_split([(np.zeros((3, 3, 3), np.uint8), labels)], table)
        >>> found.regions["regions"].to_dict()
        {'road': 1, 'car': 2}
    """
    import pandas as pd

    counts, areas, images = [], [], []
    location = np.zeros((classes.num_classes, grid, grid))
    for image, labels in _iterate(split):
        counts.append(_count(labels, classes.num_classes))
        areas.append(_measure_regions(labels))
        location += _locate(labels, classes.num_classes, grid)
        images.append(_measure_image(image))
    counts = np.stack(counts)
    return SplitStatistics(
        counts=counts,
        frequency=class_frequency(counts, classes),
        imbalance_ratio=imbalance_ratio(counts, classes),
        co_occurrence=co_occurrence(counts, classes),
        regions=_tabulate_regions(np.concatenate(areas, axis=1), counts, classes),
        location=location / len(counts),
        images=pd.DataFrame(images),
    )


def class_frequency(counts, classes):
    """Tabulate how much of each scored class there is.

    Args:
        counts: int array `(num_images, num_classes)`, as of `count_pixels`.
        classes: ClassTable.

    Returns:
        DataFrame by class name. `pixels`; `pixel_share`: of the scored pixels
        of all images; `images`: that hold the class; `image_share`: of all
        images; `share_where_present`: of the scored pixels of the images that
        hold the class, NaN where none does.

    Example:
        >>> from seglib.classes import ClassTable
        >>> table = ClassTable(["road", "car"], [(128, 64, 128), (64, 0, 128)])
        >>> class_frequency([[6, 2], [8, 0]], table)["pixel_share"].to_dict()
        {'road': 0.875, 'car': 0.125}
    """
    import pandas as pd

    counts, holds = _scored(counts, classes)
    pixels, images = counts.sum(axis=0), holds.sum(axis=0)
    columns = {
        "pixels": pixels,
        "pixel_share": _divide(pixels, pixels.sum()),
        "images": images,
        "image_share": images / len(counts),
        "share_where_present": _divide(pixels, counts.sum(axis=1) @ holds),
    }
    return pd.DataFrame(columns, index=_scored_names(classes))


def imbalance_ratio(counts, classes):
    """Divide the pixels of the commonest scored class by those of the rarest present.

    Args:
        counts: int array `(num_images, num_classes)`, as of `count_pixels`.
        classes: ClassTable.

    Returns:
        float, at least 1; NaN where no scored class has a pixel.

    Example:
        >>> from seglib.classes import ClassTable
        >>> table = ClassTable(["road", "car"], [(128, 64, 128), (64, 0, 128)])
        >>> imbalance_ratio([[6, 2], [8, 0]], table)
        7.0
    """
    pixels = _scored(counts, classes)[0].sum(axis=0)
    pixels = pixels[pixels > 0]
    return float(pixels.max() / pixels.min()) if len(pixels) else float("nan")


def co_occurrence(counts, classes):
    """Tell how often an image that holds one class holds another.

    Args:
        counts: int array `(num_images, num_classes)`, as of `count_pixels`.
        classes: ClassTable.

    Returns:
        DataFrame, rows and columns by class name: of the images that hold the
        row's class, the share that also hold the column's. NaN in the row of a
        class that no image holds.

    Example:
        >>> from seglib.classes import ClassTable
        >>> table = ClassTable(["road", "car"], [(128, 64, 128), (64, 0, 128)])
        >>> co_occurrence([[6, 2], [8, 0]], table).to_numpy()
        array([[1. , 0.5],
               [1. , 1. ]])
    """
    import pandas as pd

    holds = _scored(counts, classes)[1].astype(np.int64)
    share = _divide(holds.T @ holds, holds.sum(axis=0)[:, None])
    return pd.DataFrame(share, index=_scored_names(classes), columns=_scored_names(classes))


def _iterate(split):
    if len(split) == 0:
        raise ValueError("the split holds no pair of image and labels: nothing to measure")
    for i in show_progress(range(len(split)), desc="measuring", unit="image"):
        image, labels = split[i]
        labels = np.asarray(labels)
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"pair {i}: expected labels as an int array (height, width), received "
                f"{labels.dtype} {labels.shape}; masks are decoded to labels first"
            )
        yield image, labels


def _count(labels, num_classes):
    valid = (labels >= 0) & (labels < num_classes)
    return np.bincount(labels[valid], minlength=num_classes)


def _measure_regions(labels):
    from skimage.measure import label

    # One call for all classes: a region is 8-connected pixels of equal id.
    regions = label(labels, background=-1, connectivity=2).ravel()
    ids = np.zeros(regions.max() + 1, np.int64)
    ids[regions] = labels.ravel()
    return np.stack([ids, np.bincount(regions)])[:, 1:]


def _tabulate_regions(ids_and_areas, counts, classes):
    import pandas as pd

    ids, areas = ids_and_areas
    by_class = [areas[ids == i] for i in classes.scored_ids]
    found = np.array([len(mine) for mine in by_class])
    holds = (counts[:, list(classes.scored_ids)] > 0).sum(axis=0)
    columns = {"regions": found, "regions_per_image": _divide(found, holds)}
    for name, measure in (("median", np.median), ("smallest", np.min), ("largest", np.max)):
        columns[f"{name}_area"] = [measure(mine) if len(mine) else np.nan for mine in by_class]
    return pd.DataFrame(columns, index=_scored_names(classes))


def _locate(labels, num_classes, grid):
    # Repeating pixels leaves no cell of the grid empty in an image smaller than it.
    repeats = [-(-grid // size) for size in labels.shape]
    labels = labels.repeat(repeats[0], axis=0).repeat(repeats[1], axis=1)
    rows, columns = (np.arange(size) * grid // size for size in labels.shape)
    cells = rows[:, None] * grid + columns
    sizes = np.bincount(cells.ravel(), minlength=grid * grid)
    valid = (labels >= 0) & (labels < num_classes)
    flat = labels[valid].astype(np.int64) * grid * grid + cells[valid]
    found = np.bincount(flat, minlength=num_classes * grid * grid)
    return (found.reshape(num_classes, -1) / sizes).reshape(num_classes, grid, grid)


def _measure_image(image):
    from scipy.ndimage import laplace

    image = np.asarray(image)
    grey = image.astype(np.float32) @ GREY
    red, green, blue = image.mean(axis=0).mean(axis=0)  # a tenth of the time of one mean
    return {
        "height": image.shape[0],
        "width": image.shape[1],
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "red": red,
        "green": green,
        "blue": blue,
        "sharpness": float(laplace(grey, mode="nearest").var()),
    }


def _scored(counts, classes):
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[1] != classes.num_classes:
        raise ValueError(
            f"expected counts of shape (num_images, {classes.num_classes}), "
            f"received {counts.shape}; count_pixels returns it"
        )
    counts = counts[:, list(classes.scored_ids)]
    return counts, counts > 0


def _scored_names(classes):
    import pandas as pd

    return pd.Index([classes.names[i] for i in classes.scored_ids], name="class")


def _divide(part, whole):
    part, whole = np.broadcast_arrays(np.asarray(part, float), whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
