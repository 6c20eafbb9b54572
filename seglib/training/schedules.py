"""Learning rates over the steps of a run."""

import keras


@keras.saving.register_keras_serializable(package="seglib")
class Trapezoid(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises over 5 % of the steps, is held, and falls to 0 over 40 %.

    Short runs get further with it than with a cosine over all steps, which spends half
    of them at less than half of the rate.

    Args:
        learning_rate: float, held.
        steps: int, of the whole training.

    Source: Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed
    Training Durations", section 3.
    """

    def __init__(self, learning_rate, steps):
        self.learning_rate, self.steps = learning_rate, steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        rise = (step + 1) / max(1.0, 0.05 * self.steps)
        fall = (self.steps - step) / max(1.0, 0.4 * self.steps)
        share = keras.ops.minimum(keras.ops.minimum(rise, fall), 1.0)
        return self.learning_rate * keras.ops.maximum(share, 0.0)

    def get_config(self):
        return {"learning_rate": self.learning_rate, "steps": self.steps}
