"""One small interface over all runtimes."""

import pathlib

import numpy as np

from seglib.classes import create_class_table
from seglib.exports.card import read_card
from seglib.exports.formats import FORMATS, check_runtime, open_format, refuse_threads
from seglib.predicting import Scorer, predict, predict_probabilities


class Predictor:
    """An exported model, ready to label pictures; `seglib.load_predictor` makes it.

    Several threads may call it at once.

    Args:
        scorer: Scorer.
        card: seglib.exports.card.Card, what the export says of itself.
        path: path of its folder.

    Attributes:
        classes: ClassTable; of a model that knew none, `class_0`, … in made-up colours.
        megabytes: float, of all files of the folder, in 10**6 bytes.
    """

    def __init__(self, scorer, card, path):
        self.scorer, self.card, self.path = scorer, card, pathlib.Path(path)
        self.classes = card.classes or create_class_table(
            [f"class_{i}" for i in range(card.num_classes)]
        )
        files = [file for file in self.path.rglob("*") if file.is_file()]
        self.megabytes = sum(file.stat().st_size for file in files) / 1e6

    def predict(self, images, *, flip=False, tile=False):
        """Label pictures of any size, as `seglib.predict` does.

        Args:
            images: uint8 RGB array `(height, width, 3)`, a batch `(n, height, width, 3)`, or a list
                of pictures of any sizes.
            flip, tile: as of `seglib.predict`.

        Returns:
            uint8 array `(height, width)` of ids, uint16 where one is above 255; for a batch
            `(n, height, width)`, for a list a list.

        Raises:
            ValueError: a picture is no uint8 RGB array.
        """
        return predict(self.scorer, images, flip=flip, tile=tile)

    def predict_probabilities(self, image, *, flip=False, tile=False):
        """Return the probability of each class at each pixel, as `seglib.predict_probabilities`."""
        return predict_probabilities(self.scorer, image, flip=flip, tile=tile)

    def __repr__(self):
        height, width = self.card.image_size
        return (
            f"Predictor({self.path.name}: {self.card.format} {self.card.precision}, "
            f"{height}×{width}, {self.card.num_classes} classes, {self.megabytes:.1f} MB)"
        )


def load_predictor(path, *, threads=None):
    """Load an export, whatever its format.

    Args:
        path: str or path of a folder that `seglib.export` wrote.
        threads: int, how many threads one picture may take; None for as many as there are cores.
            Not for "keras" and "savedmodel", where TensorFlow has one pool for the whole process.

    Returns:
        Predictor.

    Raises:
        ValueError: the folder holds no export or a damaged one, or `threads` cannot be had.
        ModuleNotFoundError: the runtime is not installed; the message names it.
    """
    card = read_card(path)
    if card.format not in FORMATS:
        raise ValueError(
            f"{path} is of the format {card.format!r}, expected one of {', '.join(FORMATS)}: "
            "update seglib"
        )
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ValueError(f"expected threads to be a whole number ≥ 1 or None, received {threads!r}")
    if card.format in ("keras", "savedmodel"):
        refuse_threads(card.format, threads)
    check_runtime(card.format, to_read=True)
    try:
        score = open_format(card.format).read(pathlib.Path(path), card, threads)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # each runtime has its own
        raise ValueError(
            f"{path} cannot be loaded, its files may be damaged: export the model again ({error})"
        ) from error
    scorer = Scorer(
        score=score,
        size=card.image_size,
        fit=card.fit,
        num_classes=card.num_classes,
        classes=card.classes,
    )
    return Predictor(scorer, card, path)


def score_one_by_one(score):
    """Return a function of batches from one of single pictures.

    Args:
        score: function of float32 `(1, height, width, 3)` to float32 `(1, height, width, k)`.
    """
    return lambda batch: np.concatenate([
        score(picture[None].astype(np.float32)) for picture in batch
    ])  # fmt: skip
