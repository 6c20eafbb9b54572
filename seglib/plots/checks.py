"""Examples of what `check_dataset` found."""

import textwrap

import numpy as np

from seglib.checks import find_strange_pixels, find_tiny_regions
from seglib.encodings import LOSSY_NOISE_DISTANCE, NOISE_DISTANCE, read_mask
from seglib.images import read_image
from seglib.masks import label_colors, sharpen_boundaries
from seglib.plots.drawing import WIDTH, create_figure

MARK = (213, 94, 0)
TEXT_WIDTH, TEXT_LINES = 42, 14
CROP = 40  # pixels a side, in which blends can be seen
MAX_SIDE = 1000  # pixels: no more are seen
SEVERITY_COLORS = {"error": "#B22222", "warning": "#A65900", "note": "0.3"}


def plot_findings(report, *, max_examples=8):
    """Show examples of what is wrong with a data set, a row each, the gravest first.

    Args:
        report: DatasetReport.
        max_examples: int. Of one kind of finding at most two are shown.

    Returns:
        Figure; without pictures to show, one that says so.

    Raises:
        DatasetError: a file is not there any more.
    """
    rows = _choose_examples(report, max_examples)
    if not rows:
        return _say("There is no finding that a picture could show.")
    pictures = [_draw(example, report) for _, example in rows]
    ratios = [max(0.5, *(p.shape[0] / p.shape[1] for p, _ in row)) for row in pictures]
    heights = [min(ratio, 1.2) * WIDTH / 3 + 0.4 for ratio in ratios]
    figure = create_figure(sum(heights))
    axes = figure.subplots(len(rows), 3, squeeze=False, height_ratios=heights)
    for row, (finding, _), shown in zip(axes, rows, pictures, strict=True):
        for ax, (picture, caption) in zip(row, shown, strict=False):
            _show(ax, picture, caption)
        _explain(row[-1], finding)
    return figure


def _choose_examples(report, limit):
    chosen, kinds = [], {}
    for finding in report.findings:
        for example in finding.examples:
            kinds[finding.check] = kinds.get(finding.check, 0) + 1
            if kinds[finding.check] <= 2:
                chosen.append((finding, example))
    return chosen[:limit]


def _draw(example, report):
    """Two `(picture, caption)` of an example."""
    if len(example.pairs) == 2:
        images = [read_image(image) for image, _ in example.pairs]
        return list(zip(images, example.captions, strict=True))
    image, mask = example.pairs[0]
    labels, pixels, lossy = read_mask(mask, report.classes, encoding=example.encoding)
    if example.check in ("unknown colours", "stray colours"):
        unknown, _ = find_strange_pixels(pixels, labels, report.classes, lossy=lossy)
        return [(pixels, mask.name), (_mark(pixels, unknown), "unknown colours marked")]
    if example.check in ("blended boundaries", "lossy masks"):
        return _draw_seams(mask.name, pixels, labels, report.classes, lossy)
    colors, wrong = _paint(labels, report.classes)
    if example.check == "unknown ids":
        return [(read_image(image), image.name), (_mark(colors, wrong), "unknown ids marked")]
    if example.check == "tiny regions":
        regions, _, _, tiny = find_tiny_regions(labels, report.image_size)
        tiny = tiny[regions] & np.isin(labels, report.classes.scored_ids)
        return [(colors, mask.name), (_mark(colors, tiny), "tiny regions marked")]
    halves = {"photograph": read_image(image), "mask": colors}
    return [(half, f"{name}, {half.shape[0]}×{half.shape[1]}") for name, half in halves.items()]


def _draw_seams(name, pixels, labels, classes, lossy):
    """The part of a mask with the most blends, as it is and as it is read."""
    from scipy.ndimage import uniform_filter

    unknown, blends = find_strange_pixels(pixels, labels, classes, lossy=lossy)
    dense = uniform_filter((blends | unknown).astype(np.float32), CROP, mode="constant")
    middle = np.unravel_index(dense.argmax(), dense.shape)
    part = tuple(
        slice(start := max(0, min(m - CROP // 2, side - CROP)), start + CROP)
        for m, side in zip(middle, labels.shape, strict=True)
    )
    tolerance = LOSSY_NOISE_DISTANCE if lossy else NOISE_DISTANCE
    read = sharpen_boundaries(pixels, labels, classes, tolerance=tolerance)
    return [(pixels[part], f"part of {name}"), (_paint(read[part], classes)[0], "as it is read")]


def _paint(labels, classes):
    """Colours of the labels, and which are in no class table."""
    wrong = (labels < 0) | (labels >= classes.num_classes)
    if classes.ignore_label is not None:
        wrong &= labels != classes.ignore_label
    return label_colors(np.where(wrong, 0, labels), classes), wrong


def _mark(colors, where):
    """Fade a picture and paint pixels, with some around them, or single ones would not show."""
    from scipy.ndimage import binary_dilation

    marked = (0.3 * colors + 0.7 * 245).astype(np.uint8)
    marked[binary_dilation(where, iterations=1 + max(where.shape) // 250)] = MARK
    return marked


def _show(ax, picture, caption):
    step = -(-max(picture.shape) // MAX_SIDE)
    smooth = "auto" if max(picture.shape) > 2 * CROP else "nearest"
    ax.imshow(picture[::step, ::step].copy(), interpolation=smooth)
    ax.set(xticks=[], yticks=[], anchor="N")
    ax.set_title(caption if len(caption) <= 40 else f"…{caption[-39:]}", fontsize=9)


def _explain(ax, finding):
    """Write the finding beside its pictures."""
    place = f" in {finding.split}" if finding.split else ""
    where = f" [{finding.where}]" if finding.where else ""
    title = textwrap.wrap(f"{finding.severity}: {finding.check}{place}", TEXT_WIDTH - 4)
    style = {"max_lines": TEXT_LINES, "placeholder": " …", "break_on_hyphens": False}
    words = textwrap.wrap(f"{finding.meaning} {finding.advice}{where}", TEXT_WIDTH, **style)
    ax.set_axis_off()
    style = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    color = SEVERITY_COLORS[finding.severity]
    ax.annotate("\n".join(title), (0, 1), (0, 0), weight="bold", color=color, **style)
    ax.annotate("\n".join(words), (0, 1), (0, -15 * len(title)), fontsize=9, **style)


def _say(sentence):
    figure = create_figure(0.6)
    ax = figure.subplots()
    ax.set_axis_off()
    ax.text(0, 0.5, sentence, va="center")
    return figure
