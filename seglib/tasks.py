"""What a model with several heads answers beside the classes of pixels."""

import weakref

import keras
from keras import ops

from seglib.fitting import cut_padding, fit_image
from seglib.labelling import check_picture, interpolate
from seglib.losses import choose_jit
from seglib.models import check_model, model_fit, task_layers

_scorers = weakref.WeakKeyDictionary()


def predict_heads(model, image):
    """Return where boundaries between classes are in a picture, and which classes it shows.

    Args:
        model: keras.Model from `create_unetpp_model(heads=…)`.
        image: uint8 RGB array `(height, width, 3)`.

    Returns:
        dict of the heads that the model has: "boundary", float32 array `(height, width)` of
        probabilities, for `seglib.separate_instances`; "presence", float32 array
        `(num_classes,)` of probabilities. That of the ignored class says nothing.

    Raises:
        ValueError: the model has no such heads, or the picture is no uint8 RGB array.
    """
    check_model(model)
    check_picture(image)
    scorer, fit, size = _get_scorer(model), model_fit(model), image.shape[:2]
    target = [side or own for side, own in zip(model.input_shape[1:3], size, strict=True)]
    scores = scorer.predict_on_batch(fit_image(image, target, fit=fit)[None])
    answers = {task: values[0] for task, values in scores.items()}
    if "boundary" in answers:
        shown = cut_padding(answers["boundary"][..., 0], size, fit=fit)
        answers["boundary"] = interpolate(interpolate(shown, size[0], axis=0), size[1], axis=1)
    return answers


def _get_scorer(model):
    """The compiled function from pictures to the answers of all heads by name, made once."""
    if model not in _scorers:
        heads = {
            layer.task: ops.sigmoid(output)
            for layer, output in zip(task_layers(model), model.outputs, strict=True)
            if layer is not None and layer.task != "segmentation"
        }
        if not heads:
            raise ValueError(
                "the model has no heads beside segmentation: create it with "
                'heads=("segmentation", "boundary", "presence") and train it'
            )
        _scorers[model] = keras.Model(model.inputs, heads)
        _scorers[model].compile(jit_compile=choose_jit())
    return _scorers[model]
