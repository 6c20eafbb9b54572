"""Which random changes there are, and how strong."""

import dataclasses

import numpy as np

# The lowest and the highest value of each number.
RANGES = {
    "flip": (0, 1),
    "aspect": (1, 10),
    "shift": (0, 1),
    "rotation": (0, 180),
    "focus": (0, 1),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "saturation": (0, 1),
    "hue": (0, 180),
    "blur": (0, 100),
    "blur_probability": (0, 1),
    "noise": (0, 255),
    "noise_probability": (0, 1),
    "mixup": (0, 1),
    "mixup_alpha": (0.01, 100),
    "cutmix": (0, 1),
    "cutmix_alpha": (0.01, 100),
    "paste": (0, 1),
}
SCALES = (0.01, 100)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes to training pairs, and how strong they are; 0 switches one off.

    The defaults mirror and change brightness and contrast. Colours are those of the window
    after the geometry; blur and noise come last, as in a camera.

    Args:
        size: `(height, width)` in pixels, or an int for a square: the window that is cut out
            of the stored picture. None for the stored size.
        native: bool. False: at scale 1 the whole picture fills the window, stretched where the
            shapes differ, as validation and `predict` show it to a model of that size. True: at
            scale 1 a pixel of the window is one of the stored picture, as `predict(tile=True)`
            shows it.
        flip: probability of mirroring left and right.
        scale: `(lowest, highest)` factor of enlargement, drawn log-uniformly from within
            `SCALES`. Above 1 a part of the picture fills the window; below 1 the picture fills
            a part of the window. Either part lies anywhere, uniformly.
        aspect: factor in [1, 10] by which width over height grows or shrinks at the most,
            drawn log-uniformly.
        shift: share of the window's sides in [0, 1] by which it may move beyond that.
        rotation: degrees in [0, 180], turned by that at the most to either side.
        focus: probability that the window is centred on a pixel of a class that is drawn from
            those in the picture; as nearly as it can move.
        focus_weights: `(num_classes,)` numbers ≥ 0 that this class is drawn by; None for all
            alike, which favours rare ones. The ignored class is never drawn.
        brightness: share of the full range in [0, 1] that is added or taken at the most.
        contrast: in [0, 1]. The distance from mid grey is scaled by up to 1 ± contrast.
        saturation: in [0, 1]. The distance from grey is scaled by up to 1 ± saturation.
        hue: degrees in [0, 180], by which colours turn about the grey axis at the most.
        blur: pixels in [0, 100], the largest standard deviation of a Gaussian blur.
        blur_probability: how often a picture is blurred, if `blur` is not 0.
        noise: grey levels in [0, 255], the largest standard deviation of Gaussian noise.
        noise_probability: how often a picture gets noise, if `noise` is not 0.
        mixup: probability that a pair is blended with another one. Labels become shares of
            classes, of all pairs.
        mixup_alpha: in [0.01, 100]. The share is drawn from Beta(alpha, alpha).
        cutmix: probability that a box of another pair is pasted in.
        cutmix_alpha: as `mixup_alpha`, for the share of the area that is kept.
        paste: probability that all pixels of one class of another pair are pasted in, such as its
            pedestrians. Mixup, CutMix and this exclude each other: their probabilities add up to
            1 at the most.
        paste_weights: `(num_classes,)` numbers ≥ 0 that this class is drawn by, of those that the
            other pair shows; None for all alike. The ignored class is never drawn.

    Raises:
        ValueError: a number is out of range.

    References:
        Zhang et al. 2018, https://arxiv.org/abs/1710.09412 (mixup);
        Yun et al. 2019, https://arxiv.org/abs/1905.04899 (CutMix);
        Ghiasi et al. 2021, https://arxiv.org/abs/2012.07177 (copy-paste).
    """

    size: tuple | None = None
    native: bool = False
    flip: float = 0.5
    scale: tuple = (1.0, 1.0)
    aspect: float = 1.0
    shift: float = 0.0
    rotation: float = 0.0
    focus: float = 0.0
    focus_weights: tuple | None = None
    brightness: float = 0.1
    contrast: float = 0.2
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    blur_probability: float = 0.5
    noise: float = 0.0
    noise_probability: float = 0.5
    mixup: float = 0.0
    mixup_alpha: float = 0.4
    cutmix: float = 0.0
    cutmix_alpha: float = 1.0
    paste: float = 0.0
    paste_weights: tuple | None = None

    def __post_init__(self):
        object.__setattr__(self, "size", _check_size(self.size))
        object.__setattr__(self, "scale", _check_scale(self.scale))
        for name in ("focus_weights", "paste_weights"):
            object.__setattr__(self, name, _check_weights(name, getattr(self, name)))
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if not (_is_number(value) and lowest <= value <= highest):
                raise ValueError(
                    f"expected {name} to be a number in [{lowest}, {highest}], received {value!r}"
                )
        if not isinstance(self.native, bool | np.bool_):
            raise ValueError(f"expected native to be True or False, received {self.native!r}")
        if self.mixup + self.cutmix + self.paste > 1:
            raise ValueError(
                "a pair is mixed in one way: expected mixup + cutmix + paste of at most 1, "
                f"received {self.mixup} + {self.cutmix} + {self.paste}"
            )

    @property
    def mixes(self):
        """bool, whether pairs need other pairs."""
        return max(self.mixup, self.cutmix, self.paste) > 0

    def to_dict(self):
        """Return the options for JSON; `Augmentation(**...)` reads them."""
        return dataclasses.asdict(self)


def choose_augmentation(augment):
    """Return the Augmentation that `augment=` of `seglib.train` means; None for none.

    Raises:
        ValueError: it is neither a bool nor an Augmentation.
    """
    if isinstance(augment, Augmentation):
        return augment
    if augment is None or isinstance(augment, bool | np.bool_):
        return Augmentation() if augment else None
    raise ValueError(
        "expected augment to be True, False or a seglib.Augmentation, such as "
        f"seglib.Augmentation(scale=(0.75, 2)), received {augment!r}"
    )


def _check_size(size):
    if size is None:
        return None
    sides = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(sides) != 2 or not all(_is_number(side) and side == side // 1 >= 1 for side in sides):
        raise ValueError(
            f"expected size to be (height, width) in whole pixels, an int for a square, or None "
            f"for the stored size, received {size!r}"
        )
    return int(sides[0]), int(sides[1])


def _check_scale(scale):
    scale = tuple(scale) if np.ndim(scale) else (scale,)
    lowest, highest = SCALES
    if len(scale) != 2 or not (
        all(map(_is_number, scale)) and lowest <= scale[0] <= scale[1] <= highest
    ):
        raise ValueError(
            f"expected scale to be (lowest, highest) factors within [{lowest}, {highest}], such "
            f"as (0.75, 2), received {scale!r}"
        )
    return scale


def _check_weights(name, weights):
    if weights is None:
        return None
    array = np.asarray(weights, float)
    if array.ndim != 1 or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(
            f"expected {name} to be a finite number of at least 0 for each class, "
            f"received {weights!r}"
        )
    return tuple(array.tolist())


def _is_number(value):
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
