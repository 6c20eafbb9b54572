"""Heads for several tasks: what else a network answers about the picture that it segments."""

import keras
from keras import layers, ops

TASKS = ("boundary", "presence", "segmentation")  # in the order of the outputs


@keras.saving.register_keras_serializable(package="seglib")
class TaskLogits(layers.Layer):
    """Scores of one of several tasks as float32, a map cropped to the picture's size.

    It also keeps `log_variance`, how uncertain the task is, on which the scores do not depend.
    `train` makes it trainable where it is to learn how much the task's loss counts.

    Args:
        task: one of `TASKS`.
    """

    def __init__(self, task, **kwargs):
        super().__init__(**{"trainable": False, **kwargs, "dtype": "float32"})
        self.task = task

    def build(self, scores_shape, image_shape):
        self.log_variance = self.add_weight(shape=(), initializer="zeros", name="log_variance")

    def call(self, scores, image):
        scores = ops.cast(scores, "float32")
        if len(scores.shape) == 2:
            return scores
        height, width = ops.shape(image)[1:3]
        return scores[:, :height, :width]

    def compute_output_shape(self, scores_shape, image_shape):
        if len(scores_shape) == 2:
            return scores_shape
        return (*image_shape[:3], scores_shape[-1])

    def get_config(self):
        return {**super().get_config(), "task": self.task}


def check_heads(heads):
    """Raise ValueError where these are not names of `TASKS`, segmentation among them."""
    names = list(heads)
    if set(names) - set(TASKS) or "segmentation" not in names or len(set(names)) < len(names):
        raise ValueError(
            'expected heads to be ("segmentation",), with "boundary" or "presence" or both beside '
            f"it, received {heads!r}"
        )


def task_layers(model):
    """Return the TaskLogits of each output of a model, None for a plain output."""
    known = {layer.name: layer for layer in model.layers if isinstance(layer, TaskLogits)}
    if not known:  # a Sequential does not name its output
        return [None] * len(model.outputs)
    return [known.get(name) for name in model.output_names]
