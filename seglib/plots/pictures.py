"""Photos, labels and predictions as pictures, with legends of their colours."""

import numpy as np
from matplotlib.patches import Patch

from seglib.masks import label_colors
from seglib.plots.drawing import WIDTH, create_figure, grow_figure

ERRORS = {"correct": (200, 200, 200), "wrong": (213, 94, 0), "ignored": (0, 0, 0)}


def overlay(image, labels, classes, *, alpha=0.5):
    """Lay the colours of the classes over an image.

    Args:
        image: array `(height, width, 3)`; uint8, or float in [0, 1].
        labels: int array `(height, width)` of ids.
        classes: ClassTable.
        alpha: float in [0, 1], how much of the class colour: 1 hides the image.

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        ValueError: image and labels differ in size, or an id is not in the table.

    Example:
        >>> from seglib.classes import ClassTable
        >>> table = ClassTable(["road"], [(200, 100, 0)])
        >>> overlay(np.full((1, 1, 3), 100, np.uint8), np.array([[0]]), table, alpha=0.25)
        array([[[125, 100,  75]]], dtype=uint8)
    """
    image, colors = _to_bytes(image), label_colors(labels, classes)
    if image.shape != colors.shape:
        raise ValueError(
            f"image and labels must have the same size, received an image of shape "
            f"{image.shape} and labels of shape {np.shape(labels)}"
        )
    return np.rint((1 - alpha) * image + alpha * colors).astype(np.uint8)


def error_map(y_true, y_pred, ignore_label=None):
    """Paint pixels grey where the prediction is correct, orange where wrong, black where ignored.

    Args:
        y_true: int array `(height, width)` of ids.
        y_pred: int array, same shape.
        ignore_label: int or None. Pixels whose true id is this are ignored.

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> error_map([[0, 1, 255]], [[0, 0, 0]], 255).tolist()
        [[[200, 200, 200], [213, 94, 0], [0, 0, 0]]]
    """
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"y_true and y_pred must have the same shape, received {y_true.shape} and "
            f"{y_pred.shape}; resize the prediction to the size of the truth"
        )
    kinds = (y_true != y_pred).astype(int)
    if ignore_label is not None:
        kinds[y_true == ignore_label] = 2
    return np.array(list(ERRORS.values()), np.uint8)[kinds]


def plot_samples(pairs, classes, *, titles=None):
    """Show photos, their masks, and both together, a row a pair.

    Args:
        pairs: sequence of `(image, labels)`, as a split gives them.
        classes: ClassTable.
        titles: sequence of str or None, a name for each row.

    Returns:
        Figure, with a legend of the classes below.
    """
    rows = [
        [_to_bytes(image), label_colors(labels, classes), overlay(image, labels, classes)]
        for image, labels in pairs
    ]
    figure, _ = _plot_pictures(rows, ["photo", "mask", "overlay"], titles, smooth=(0, 2))
    _add_class_legend(figure, classes)
    return figure


def plot_variants(pairs, classes, titles):
    """Show what became of a pair, photos above and masks below, a column a variant.

    Args:
        pairs: sequence of `(image, labels)` of one size.
        classes: ClassTable.
        titles: sequence of str, a name for each column.

    Returns:
        Figure, with a legend of the classes below.
    """
    rows = [
        [_to_bytes(image) for image, _ in pairs],
        [label_colors(labels, classes) for _, labels in pairs],
    ]
    figure, _ = _plot_pictures(rows, titles, ["photo", "mask"], smooth=())
    _add_class_legend(figure, classes)
    return figure


def plot_predictions(images, y_true, y_pred, classes, *, titles=None, confidence=None):
    """Compare predictions with the truth, a row an image.

    Args:
        images: sequence of arrays `(height, width, 3)`; uint8, or float in [0, 1].
        y_true: sequence of int arrays `(height, width)` of ids.
        y_pred: sequence of int arrays `(height, width)` of ids.
        classes: ClassTable.
        titles: sequence of str or None, a name for each row.
        confidence: sequence of float arrays `(height, width)` in [0, 1], or
            None: adds a column that shows them.

    Returns:
        Figure, with legends below.
    """
    names = ["photo", "truth", "prediction", "errors"]
    triples = zip(images, y_true, y_pred, strict=True)
    rows = [_compare(*triple, classes) for triple in triples]
    if confidence is not None:
        rows = [[*row, values] for row, values in zip(rows, confidence, strict=True)]
        names.append("confidence")
    figure, axes = _plot_pictures(rows, names, titles)
    _add_error_legend(axes[-1, 3], classes.ignore_label)
    if confidence is not None:
        _add_confidence_bar(axes[-1, 4])
    _add_class_legend(figure, classes)
    return figure


def plot_models(images, y_true, y_pred, classes):
    """Show the same pictures through several models, a row an image, a column a model.

    Args:
        images: sequence of arrays `(height, width, 3)`; uint8, or float in [0, 1].
        y_true: sequence of int arrays `(height, width)` of ids.
        y_pred: dict `{name of a model: sequence of int arrays (height, width)}`.
        classes: ClassTable.

    Returns:
        Figure, with a legend of the classes below.
    """
    masks = [[label_colors(labels, classes) for labels in y] for y in (y_true, *y_pred.values())]
    rows = list(zip(map(_to_bytes, images), *masks, strict=True))
    figure, _ = _plot_pictures(rows, ["photo", "truth", *y_pred])
    _add_class_legend(figure, classes)
    return figure


def plot_overlay(image, labels, classes, *, alpha=0.5):
    """Show the class colours over one image; arguments as `overlay` takes them."""
    picture = overlay(image, labels, classes, alpha=alpha)
    figure, _ = _plot_pictures([[picture]], [None], width=0.7 * WIDTH)
    _add_class_legend(figure, classes)
    return figure


def plot_error_map(y_true, y_pred, *, ignore_label=None):
    """Show where one prediction is wrong; arguments as `error_map` takes them."""
    picture = error_map(y_true, y_pred, ignore_label)
    wrong = (picture == ERRORS["wrong"]).all(axis=-1).sum()
    scored = (picture != ERRORS["ignored"]).any(axis=-1).sum()
    share = f"{100 * wrong / scored:.1f} % of the scored pixels are wrong" if scored else None
    figure, axes = _plot_pictures([[picture]], [share], width=0.7 * WIDTH)
    _add_error_legend(axes[0, 0], ignore_label)
    return figure


def plot_confidence(image, confidence):
    """Show an image beside the confidence of its prediction.

    Args:
        image: array `(height, width, 3)`; uint8, or float in [0, 1].
        confidence: float array `(height, width)` in [0, 1], the probability of
            the class that was chosen.

    Returns:
        Figure, with a colour bar.
    """
    row = [_to_bytes(image), np.asarray(confidence)]
    figure, axes = _plot_pictures([row], ["photo", "confidence"])
    _add_confidence_bar(axes[0, 1])
    return figure


def plot_label_comparison(images, classes=None):
    """Show pictures side by side, pixel by pixel, such as crops of one place.

    Args:
        images: dict `{title: picture}`; a picture is RGB `(height, width, 3)` or
            labels `(height, width)`.
        classes: ClassTable or None; needed where there are labels.

    Returns:
        Figure, with a legend where there are labels.

    Raises:
        ValueError: there are labels and no classes.
    """
    pictures = {title: np.asarray(picture) for title, picture in images.items()}
    with_labels = [title for title, picture in pictures.items() if picture.ndim == 2]
    if with_labels and classes is None:
        raise ValueError(f"{with_labels[0]!r} holds labels: pass classes to colour them")
    row = [label_colors(p, classes) if p.ndim == 2 else _to_bytes(p) for p in pictures.values()]
    figure, _ = _plot_pictures([row], list(pictures), smooth=())
    if with_labels:
        _add_class_legend(figure, classes)
    return figure


def plot_palette(classes):
    """Show the colours of the classes, scored ones first, as a strip."""
    figure = create_figure(0.1)
    figure.subplots().set_axis_off()  # notebooks show no figure without axes
    _add_class_legend(figure, classes, loc="center")
    return figure


def _to_bytes(image):
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _compare(image, true, pred, classes):
    masks = [label_colors(labels, classes) for labels in (true, pred)]
    return [_to_bytes(image), *masks, error_map(true, pred, classes.ignore_label)]


def _plot_pictures(rows, titles, row_titles=None, *, smooth=(0,), width=WIDTH):
    # Photos, in the columns `smooth`, are interpolated; class colours never are.
    ratios = [max(picture.shape[0] / picture.shape[1] for picture in row) for row in rows]
    height = sum(ratios) * width / len(titles) + 0.05 * len(rows)
    figure = create_figure(height + 0.35 * any(titles), width=width, layout="compressed")
    axes = figure.subplots(len(rows), len(titles), squeeze=False, height_ratios=ratios)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            interpolation = "auto" if c in smooth else "nearest"
            axes[r, c].imshow(picture, interpolation=interpolation, vmin=0, vmax=1)
            axes[r, c].set(xticks=[], yticks=[], title=titles[c] if r == 0 else None)
        if row_titles is not None:
            axes[r, 0].set_ylabel(row_titles[r], fontsize=9)
    return figure, axes


def _add_class_legend(figure, classes, loc="outside lower center"):
    colors = _name_legend_colors(classes)
    handles = [Patch(fc=color, ec="0.5", label=name) for name, color in colors.items()]
    fitting = max(1, int(figure.get_figwidth() / (0.5 + 0.08 * max(map(len, colors)))))
    rows = -(-len(colors) // fitting)
    grow_figure(figure, 0.2 + 0.2 * rows)
    style = {"fontsize": 9, "handlelength": 1.2, "columnspacing": 1.2, "frameon": False}
    figure.legend(handles=handles, loc=loc, ncols=-(-len(colors) // rows), **style)


def _name_legend_colors(classes):
    colors = {classes.names[i]: classes.colors[i] / 255 for i in classes.scored_ids}
    ignored = classes.ignore_label
    if ignored is not None:
        inside = 0 <= ignored < classes.num_classes
        name = classes.names[ignored] if inside else ignored
        colors[f"{name} (ignored)"] = classes.colors[ignored] / 255 if inside else "black"
    return colors


def _add_error_legend(ax, ignore_label):
    names = ["correct", "wrong"] + ["ignored"] * (ignore_label is not None)
    handles = [Patch(fc=np.divide(ERRORS[name], 255), ec="0.5", label=name) for name in names]
    style = {"fontsize": 8, "handlelength": 0.9, "columnspacing": 0.6, "frameon": False}
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 0.2}
    ax.legend(handles=handles, ncols=3, handletextpad=0.4, **place, **style)
    grow_figure(ax.figure, 0.2)


def _add_confidence_bar(ax):
    figure, (rows, columns) = ax.figure, ax.images[0].get_size()
    inches = rows / columns * figure.get_figwidth() / ax.get_gridspec().ncols
    place = ax.inset_axes([0.05, -0.22 / inches, 0.9, 0.12 / inches])
    bar = figure.colorbar(ax.images[0], cax=place, orientation="horizontal")
    bar.set_label("probability of the class", fontsize=8)
    bar.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"], fontsize=8)
    grow_figure(figure, 0.4)
