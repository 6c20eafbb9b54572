"""Videos, cameras and other streams of frames: labelled, painted, shown or written.

Reading and labelling each have a thread, a few frames ahead of who takes what they give, so that a
stream takes about as long as the slowest of reading, labelling and writing.
"""

import contextlib
import itertools

from seglib.classes import create_class_table
from seglib.labelling import label_pictures
from seglib.streams.ahead import run_ahead
from seglib.streams.painting import Frame, paint_frames
from seglib.streams.reading import open_source
from seglib.streams.writing import WrittenVideo, check_output, write_video

__all__ = ["Frame", "WrittenVideo", "predict_video"]


def predict_video(
    model,
    source,
    output=None,
    *,
    opacity=0.5,
    every=1,
    limit=None,
    flip=False,
    tile=False,
    show_rate=True,
    frame_rate=None,
):
    """Label a video, a camera or any other stream of frames, and paint the classes over it.

    Reading, labelling and what comes after overlap. Frames of a camera that come while others are
    labelled or shown are left out, so that what is shown is never old.

    Args:
        model: keras.Model whose last output is logits, or Predictor.
        source: str or path of a video, int number of a camera, or iterable of uint8 RGB frames
            `(height, width, 3)`. It is read some frames further than what is answered.
        output: str or path of the video to write: .mp4, .webm (which browsers play), .avi or .mkv
            (lossless). It is there only when it is whole; an odd height or width loses its last row
            or column. None gives the frames instead.
        opacity: float in [0, 1], how much of the class colour: 1 hides the image.
        every: int. 3 labels each third frame; those between keep its labels.
        limit: int, frames at most; None for all.
        flip, tile: as of `seglib.predict`.
        show_rate: bool. True writes the frames a second into the upper left corner.
        frame_rate: number, frames a second of the video that is written; None takes the source's,
            25 where it tells none. A camera's frames are repeated or left out to keep to it; where
            so many cannot be written in time, the film runs too fast: give a lower one.

    Returns:
        Without `output` a generator of Frame; closed early, it ends its threads. With it a
        WrittenVideo; Ctrl-C ends the recording of a camera, and the file is kept.

    Raises:
        ModuleNotFoundError: OpenCV is not installed; only iterables without `output` need none.
        FileNotFoundError: there is no such video.
        ValueError: the source is no video, holds no frame or a wrong one, or an argument is wrong.
        OSError: there is no such camera, or the video cannot be written.
    """
    _check_options(opacity, every, limit, frame_rate)
    if output is not None:
        output = check_output(output, source)
    scorer = _get_scorer(model)
    opened = open_source(source)  # last, so that nothing refused keeps a camera
    classes = scorer.classes or create_class_table(
        [f"class_{i}" for i in range(scorer.num_classes)]
    )
    images = run_ahead(opened.frames, newest=opened.live)
    labelled = _label_frames(scorer, images, opened.name, every, limit, flip=flip, tile=tile)
    labelled = run_ahead(labelled, newest=opened.live and output is None)
    frames = paint_frames(labelled, classes.colors, opacity, show_rate)
    if output is None:
        return frames
    return write_video(frames, output, frame_rate or opened.rate, live=opened.live)


def _check_options(opacity, every, limit, frame_rate):
    if not 0 <= opacity <= 1:
        raise ValueError(f"expected an opacity from 0 to 1, received {opacity!r}")
    for name, count in (("every", every), ("limit", 1 if limit is None else limit)):
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"expected {name} to be a whole number ≥ 1, received {count!r}")
    if frame_rate is not None and not frame_rate > 0:
        raise ValueError(f"expected a frame_rate above 0, received {frame_rate!r}")


def _get_scorer(model):
    if hasattr(model, "scorer"):  # an export, which needs no Keras
        return model.scorer
    from seglib.inference import get_scorer

    return get_scorer(model)


def _label_frames(scorer, images, name, every, limit, **options):
    """Yield `(image, labels)`."""
    labels = None
    with contextlib.closing(images):
        for i, image in enumerate(itertools.islice(images, limit)):
            if i % every == 0 or labels.shape != image.shape[:2]:
                labels = label_pictures(scorer, image, **options)
            yield image, labels
    if labels is None:
        raise ValueError(f"{name} holds no frame that can be read")
