"""Random changes to training pairs: the same geometry for image and labels.

Places are `(row, column)` with pixel edges at whole numbers, so that the first pixel's centre
is at 0.5. A map is a float array `(2, 3)`: `map @ (row, column, 1)` is the place in the picture
of a place in the window.
"""

import dataclasses
import statistics
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from seglib.images import PADDING, change_image

MID_GREY = 128.0
GREY = np.full((3, 3), 1 / 3)  # the part of a colour that is grey: the mean of its channels
# A quarter turn about the grey axis, of the part of a colour that is not grey.
QUARTER = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
# 256 equally probable values of the normal distribution: a random byte looks one up, four times
# faster than NumPy draws from it.
NORMAL = np.array([statistics.NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
NORMAL /= NORMAL.std()
SHARE_OF_BLURRED = SHARE_OF_NOISY = 0.5  # of the pictures, where blur or noise is not 0
MIXUP_ALPHA, CUTMIX_ALPHA = 0.4, 1.0  # shares are drawn from Beta(alpha, alpha)


def _within(lowest, highest, default=0.0):
    return dataclasses.field(default=default, metadata={"range": [lowest, highest]})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes to training pairs, and how strong they are; 0 switches one off.

    The defaults mirror and change brightness and contrast. Colours are those of the window
    after the geometry; blur and noise come last, as in a camera.

    Args:
        size: `(height, width)` in pixels, or an int for a square, of the window that is cut out
            of the stored picture. None for the stored size.
        native: bool. False: at scale 1 the whole picture fills the window, stretched where the
            shapes differ, as `predict` shows it. True: at scale 1 a pixel of the window is one of
            the stored picture; prepare pictures at their own size. A model that learns from such
            windows is validated and used in blended tiles.
        flip: probability of mirroring left and right.
        scale: `(lowest, highest)` factor of enlargement within [0.01, 100], drawn log-uniformly.
            Above 1 a part of the picture fills the window; below 1 the picture fills a part of
            the window. Either part lies anywhere, uniformly.
        aspect: largest factor in [1, 10] by which width over height changes, drawn log-uniformly.
        rotation: largest angle to either side, degrees in [0, 180].
        focus: probability that the window is centred, as nearly as it can move, on a pixel of a
            class that is drawn from those in the picture.
        focus_weights: `(num_classes,)` numbers ≥ 0 that this class is drawn by; None for all
            alike, which favours rare ones. The ignored class is never drawn.
        brightness: largest share of the full range in [0, 1] that is added or taken.
        contrast: in [0, 1]. The distance from mid grey is scaled by up to 1 ± contrast.
        saturation: in [0, 1]. The distance from grey is scaled by up to 1 ± saturation. Images
            of other than 3 channels have neither saturation nor hue: both leave them as they are.
        hue: largest turn of the colours about the grey axis, degrees in [0, 180].
        blur: largest standard deviation of a Gaussian blur of every second picture, pixels in
            [0, 100].
        noise: largest standard deviation of Gaussian noise in every second picture, grey levels
            in [0, 255].
        mixup: probability that a pair is blended with another one. Labels become shares of
            classes, of all pairs.
        cutmix: probability that a box of another pair is pasted in.
        paste: probability that all pixels of one class of another pair are pasted in, such as its
            pedestrians. A pair gets at most one of mixup, CutMix and pasting: the probabilities
            add up to 1 at the most.
        paste_weights: as `focus_weights`, of the class that is pasted.

    Raises:
        ValueError: a number is out of range.

    References:
        Zhang et al. 2018, https://arxiv.org/abs/1710.09412 (mixup);
        Yun et al. 2019, https://arxiv.org/abs/1905.04899 (CutMix);
        Ghiasi et al. 2021, https://arxiv.org/abs/2012.07177 (copy-paste).
    """

    size: tuple | None = None
    native: bool = False
    flip: float = _within(0, 1, 0.5)
    scale: tuple = _within(0.01, 100, (1.0, 1.0))
    aspect: float = _within(1, 10, 1.0)
    rotation: float = _within(0, 180)
    focus: float = _within(0, 1)
    focus_weights: tuple | None = None
    brightness: float = _within(0, 1, 0.1)
    contrast: float = _within(0, 1, 0.2)
    saturation: float = _within(0, 1)
    hue: float = _within(0, 180)
    blur: float = _within(0, 100)
    noise: float = _within(0, 255)
    mixup: float = _within(0, 1)
    cutmix: float = _within(0, 1)
    paste: float = _within(0, 1)
    paste_weights: tuple | None = None

    def __post_init__(self):
        if self.size is not None:
            object.__setattr__(self, "size", tuple(np.broadcast_to(self.size, 2).tolist()))
        for name in ("scale", "focus_weights", "paste_weights"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(np.ravel(getattr(self, name)).tolist()))
        for field in dataclasses.fields(self):
            value, within = getattr(self, field.name), field.metadata.get("range")
            if within and not all(within[0] <= x <= within[1] for x in np.ravel(value)):
                raise ValueError(f"expected {field.name} within {within}, received {value}")
        mixed = self.mixup + self.cutmix + self.paste
        if mixed > 1:
            raise ValueError(f"expected mixup + cutmix + paste of at most 1, received {mixed}")

    def to_dict(self) -> dict:
        """Return the options for JSON: `Augmentation(**options)` reads them."""
        return dataclasses.asdict(self)


def choose_augmentation(augment: "bool | Augmentation | Callable | None"):
    """Return the Augmentation or function that `augment=` of `train` means; None for none."""
    if augment is None or isinstance(augment, bool):
        return Augmentation() if augment else None
    if isinstance(augment, Augmentation) or callable(augment):
        return augment
    raise ValueError(
        "expected augment to be a function of (image, labels, seed), True, False or a "
        f"seglib.Augmentation, received {augment!r}"
    )


def augment_pair(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    epoch: int,
    index: int,
    augmentation: Augmentation | Callable | None = None,
    ignore_label: int | None = None,
    partners=None,
) -> tuple:
    """Change a pair at random: geometry, colours, blur, noise, then a mix with another pair.

    The result is a function of the arguments alone, so that a resumed run sees what an
    undisturbed one would have seen, whoever computes it and when.

    Args:
        image: uint8 array `(height, width, channels)`.
        labels: int array `(height, width)`.
        seed, epoch, index: ints ≥ 0, of the run, the epoch and the pair's place in it.
        augmentation: Augmentation; None for its defaults. Or a function of (image, labels, seed)
            that returns both; its seed, an int below 2³², follows from the three above alone.
        ignore_label: int or None, given to what lies outside the picture. With None, nothing
            outside is shown: the window is moved and, if need be, made smaller.
        partners: PreparedSplit that mixup, CutMix and pasting take the second pair from.

    Returns:
        `(image, labels)`, uint8 `(*size, channels)` and `(*size)` of the labels' dtype; with mixup,
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
    _check_pair(image, labels)
    random = np.random.default_rng([seed, epoch, index])
    if callable(augmentation):
        drawn = int(random.integers(2**32))
        changed = augmentation(np.array(image), np.array(labels), drawn)
        is_pair = isinstance(changed, tuple | list) and len(changed) == 2
        changed = tuple(map(np.asarray, changed if is_pair else (changed, None)))
        _check_pair(*changed)
        return changed
    pair = _change_pair(image, labels, random, augmentation, ignore_label)
    boxed = augmentation.mixup + augmentation.cutmix
    mixed = boxed + augmentation.paste
    if not mixed:
        return pair
    if partners is None:
        raise ValueError("expected partners, a PreparedSplit, for mixup, CutMix and pasting")
    # Another stream, so that what is drawn for a pair is the same whether it is mixed or not.
    random = np.random.default_rng([seed, epoch, index, 1])
    options = {"num_classes": partners.classes.num_classes, "ignore_label": ignore_label}

    def draw_partner():
        partner = partners[int(random.integers(len(partners)))]
        return _change_pair(*partner, random, augmentation, ignore_label)

    chosen, (image, labels) = random.random(), pair
    if chosen < augmentation.mixup:
        share = random.beta(MIXUP_ALPHA, MIXUP_ALPHA)
        return blend_pairs(pair, draw_partner(), share=share, **options)
    if chosen < boxed:
        area = 1 - random.beta(CUTMIX_ALPHA, CUTMIX_ALPHA)
        sides = [round(side * area**0.5) for side in labels.shape]
        top, left = (int(random.integers(labels.shape[i] - sides[i] + 1)) for i in (0, 1))
        pasted = np.zeros(labels.shape, bool)
        pasted[top : top + sides[0], left : left + sides[1]] = True
        partner = draw_partner()
    elif chosen < mixed:
        partner, weights = draw_partner(), augmentation.paste_weights
        # Without a class this is None, which no pixel is.
        pasted = partner[1] == find_class(partner[1], random.random(), weights, ignore_label)
    if chosen < mixed:
        image = np.where(pasted[..., None], partner[0], image)
        labels = np.where(pasted, partner[1], labels)
    if augmentation.mixup:  # all pairs of a batch are of one kind
        labels = soften([(labels, 1.0)], **options)
    return image, labels


def _check_pair(image, labels):
    fits = labels.ndim == 2 and image.shape[:-1] == labels.shape
    if not fits or image.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise ValueError(
            "augment: expected a uint8 image (height, width, channels) and integer labels "
            f"(height, width), received {image.dtype} {image.shape} and {labels.dtype} "
            f"{labels.shape}"
        )


def _change_pair(image, labels, random, augmentation, ignore_label):
    matrix = draw_window(random, labels, augmentation, ignore_label)
    size = augmentation.size or labels.shape
    image, labels = cut_window(image, labels, matrix, size=size, ignore_label=ignore_label)
    return change_colors(random, image, augmentation), labels


def draw_window(random, labels, augmentation, ignore_label) -> np.ndarray:
    """Draw the map `(2, 3)` from a window to a picture, with as many numbers whatever the options.

    Without an ignored label, the window stays inside the picture.
    """
    mirrored, zoom, aspect, turn, *place = random.random(6)
    focused, chosen, pixel = random.random(3)
    sides = np.array(labels.shape, float)
    window = np.array(augmentation.size or labels.shape, float)
    lowest, highest = augmentation.scale
    scale, stretch = lowest * (highest / lowest) ** zoom, augmentation.aspect ** (aspect - 0.5)
    fitting = 1.0 if augmentation.native else sides / window
    # Pixels of the picture for one of the window.
    step = fitting / scale * np.array([stretch, 1 / stretch])
    angle = np.radians(augmentation.rotation * (2 * turn - 1))  # to the left
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.array([[cosine, sine], [-sine, cosine]]) * step
    half = np.abs(matrix) @ window / 2  # of the upright box around the window
    if ignore_label is None:
        shrinking = min(1.0, *(sides / 2 / half))
        matrix, step, half = matrix * shrinking, step * shrinking, half * shrinking
    free = np.abs(sides - step * window) / 2
    center = sides / 2 + (2 * np.array(place) - 1) * free
    if focused < augmentation.focus:
        label = find_class(labels, chosen, augmentation.focus_weights, ignore_label)
        pixels = np.flatnonzero(labels == label)  # none where label is None
        if len(pixels):
            found = np.array(divmod(pixels[int(pixel * len(pixels))], labels.shape[1])) + 0.5
            center = np.clip(found, sides / 2 - free, sides / 2 + free)
    if ignore_label is None:
        center = np.clip(center, half, sides - half)
    if mirrored < augmentation.flip:
        matrix = matrix * (1, -1)
    return np.column_stack([matrix, center - matrix @ window / 2])


def find_class(labels: np.ndarray, chosen: float, weights, ignore_label: int | None) -> int | None:
    """Return a class of those that labels hold, drawn by `chosen` in [0, 1); None if none is."""
    present = np.flatnonzero(np.bincount(labels.ravel()))
    present = present[present != (-1 if ignore_label is None else ignore_label)]
    wanted = np.cumsum(np.ones(len(present)) if weights is None else np.take(weights, present))
    if not wanted.any():
        return None
    return int(present[np.searchsorted(wanted, chosen * wanted[-1], side="right")])


def cut_window(image, labels, matrix, *, size: tuple, ignore_label: int | None = None) -> tuple:
    """Show a picture and its labels, nearest pixels, through a window that `matrix` maps to it.

    Upright windows are as sharp as `resize_image` makes pictures for prediction. Outside of the
    picture, labels are the ignored one and the image is grey like the padding of a letterbox.
    """
    matrix = np.asarray(matrix, float)
    for step, start in ((1, 0), (-1, size[1])):  # most pairs, by default: twice as fast
        if size == labels.shape and np.array_equal(matrix, [[1, 0, 0], [0, step, start]]):
            return image[:, ::step], labels[:, ::step]
    # The part of the picture that is needed, with what interpolation and averaging look at.
    center = matrix @ (size[0] / 2, size[1] / 2, 1)
    half, margin = np.abs(matrix[:, :2]) @ size / 2, 1 + np.hypot(*matrix[:, :2].T)
    first = np.floor(center - half - margin).clip(0, np.subtract(labels.shape, 1)).astype(int)
    last = np.ceil(center + half + margin).clip(first + 1, labels.shape).astype(int)
    part = tuple(map(slice, first, last))
    image, labels = image[part], labels[part]
    matrix = matrix - np.column_stack([np.zeros((2, 2)), first])
    # Pillow interpolates ids of one byte, or of four.
    picture = Image.fromarray(labels if labels.dtype == np.uint8 else labels.astype(np.int32))
    ids = np.asarray(_transform(picture, matrix, size, Image.Resampling.NEAREST, ignore_label))
    return _sample_image(image, matrix, size), ids.astype(labels.dtype, copy=False)


def _sample_image(image, matrix, size):
    if not matrix[0, 1] and not matrix[1, 0]:
        return _resize_part(image, matrix, size)
    reduction = (np.hypot(*matrix[:, :2].T) + 1e-6).astype(int).clip(1, image.shape[:2])
    factors, matrix = tuple(map(int, reduction[::-1])), matrix / reduction[:, None]

    def sample(picture):
        picture = picture.reduce(factors) if max(factors) > 1 else picture
        fill = (PADDING,) * len(picture.getbands())
        return _transform(picture, matrix, size, Image.Resampling.BILINEAR, fill)

    return change_image(image, sample)


def _resize_part(image, matrix, size):
    """What an upright window shows, as sharp as `resize_image` makes a whole picture."""
    steps, starts, sides = matrix.diagonal(), matrix[:, 2], image.shape[:2]
    starts, steps, turns = np.minimum(starts, starts + steps * size), np.abs(steps), np.sign(steps)
    # Rows and columns of the window whose centres lie in the picture, and what they cover of it.
    centers = [starts[i] + steps[i] * (np.arange(size[i]) + 0.5) for i in (0, 1)]
    ends = np.stack([np.searchsorted(centers[i], (0, sides[i])) for i in (0, 1)], axis=1)
    low, high = (starts + steps * ends).round(6)
    shown = np.full((*size, image.shape[2]), PADDING, np.uint8)
    place = tuple(map(slice, *ends))
    if shown[place].size:
        before = np.ceil(-low).clip(0).astype(int)
        after = np.ceil(high - sides).clip(0).astype(int)
        edges = [*zip(before, after, strict=True), (0, 0)]
        box = (*(low + before)[::-1], *(high + before)[::-1])
        options = shown[place].shape[1::-1], Image.Resampling.BILINEAR, box
        padded = np.pad(image, edges, mode="edge")
        shown[place] = change_image(padded, lambda picture: picture.resize(*options))
    return shown[:: int(turns[0]), :: int(turns[1])]


def _transform(picture, matrix, size, resampling, fill):
    rows, columns = matrix[:, [1, 0, 2]].tolist()  # Pillow's places are (column, row)
    affine = Image.Transform.AFFINE
    return picture.transform(size[::-1], affine, (*columns, *rows), resampling, fillcolor=fill)


def change_colors(random, image, augmentation) -> np.ndarray:
    """Change brightness, contrast, saturation and hue of a picture, blur it, add noise."""
    *colors, blurred, blur, noisy, noise = random.random(8)
    names = ("brightness", "contrast", "saturation", "hue")
    strengths = np.array([getattr(augmentation, name) for name in names])
    blur *= augmentation.blur * (blurred < SHARE_OF_BLURRED)
    noise *= augmentation.noise * (noisy < SHARE_OF_NOISY)
    if strengths.any() or blur:
        changes = strengths * (2 * np.array(colors) - 1)
        matrix, blurring = color_matrix(*changes), ImageFilter.GaussianBlur(float(blur))

        def change(picture):
            if strengths.any():  # a single channel is a grey picture: no saturation, no hue
                colored = picture if picture.mode == "RGB" else picture.convert("RGB")
                changed = colored.convert("RGB", tuple(matrix.ravel()))
                picture = changed if colored is picture else changed.convert(picture.mode)
            return picture.filter(blurring) if blur else picture

        image = change_image(image, change)
    if noise:
        levels = (noise * NORMAL).round().astype(np.int16)
        drawn = levels.take(np.frombuffer(random.bytes(image.size), np.uint8))
        image = (image + drawn.reshape(image.shape)).clip(0, 255).astype(np.uint8)
    return image


def color_matrix(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0) -> np.ndarray:
    """Return all changes of colour as one map of RGB, `(3, 4)`; the last column is added.

    Grey is the mean of the channels: hue and saturation leave a pixel as bright as it is.
    """
    cosine, sine = np.cos(np.radians(hue)), np.sin(np.radians(hue))
    turned = cosine * (np.eye(3) - GREY) + sine * QUARTER
    matrix = (1 + contrast) * (GREY + (1 + saturation) * turned)
    return np.column_stack([matrix, np.full(3, 255 * brightness - contrast * MID_GREY)])


def blend_pairs(first: tuple, second: tuple, *, share: float, **options) -> tuple:
    """Blend two pairs `(image, labels)`, `share` of the first; labels become shares of classes.

    Where one is ignored, only the share of the other counts. `options` are those of `soften`.
    """
    shape = first[0].shape
    flat = (Image.fromarray(pair[0].reshape(shape[0], -1)) for pair in (second, first))
    parts = [(first[1], share), (second[1], 1 - share)]
    return np.asarray(Image.blend(*flat, share)).reshape(shape), soften(parts, **options)


def soften(parts: list, *, num_classes: int, ignore_label: int | None = None) -> np.ndarray:
    """Return the share of each class in each pixel, float32, of a list of `(labels, share)`."""
    shape = parts[0][0].shape
    shares = np.zeros((*shape, num_classes), np.float32)
    flat, starts = shares.reshape(-1), np.arange(0, shares.size, num_classes).reshape(shape)
    for labels, share in parts:
        places = starts + labels
        flat[places if ignore_label is None else places[labels != ignore_label]] += share
    return shares
