"""Learning rates over the steps of a run, however many they turn out to be."""

import keras
from keras import ops


class PlannedSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate laid over all steps of a run.

    Args:
        learning_rate: float, the highest.
        steps: number of steps in the whole run, or a variable that holds it, so that a
            plan may change while a model trains.
    """

    def __init__(self, learning_rate, steps):
        self.learning_rate, self.steps = learning_rate, steps

    def __call__(self, step):
        step, steps = ops.cast(step, "float32"), ops.cast(self.steps, "float32")
        rise = (step + 1) / ops.maximum(1.0, 0.05 * steps)
        return self.learning_rate * ops.clip(ops.minimum(rise, self.fall(step, steps)), 0.0, 1.0)

    def fall(self, step, steps):
        """Return the share of the learning rate that is left at a step."""
        raise NotImplementedError

    def get_config(self):
        steps = float(ops.convert_to_numpy(self.steps))
        return {"learning_rate": self.learning_rate, "steps": steps}


@keras.saving.register_keras_serializable(package="seglib")
class Trapezoid(PlannedSchedule):
    """A learning rate that rises over 5 % of the steps, is held, and falls to 0 over 40 %.

    Short runs get further with it than with a cosine over all steps, which spends half
    of them at less than half of the rate.

    Source: Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed
    Training Durations", section 3.
    """

    def fall(self, step, steps):
        """Return 1, and from 60 % of the steps on a straight line to 0."""
        return (steps - step) / ops.maximum(1.0, 0.4 * steps)


@keras.saving.register_keras_serializable(package="seglib")
class Cosine(PlannedSchedule):
    """A learning rate that rises over 5 % of the steps and falls as a cosine to 0.

    Source: Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", equation 5, without restarts.
    """

    def fall(self, step, steps):
        """Return half a cosine, from 1 to 0."""
        return 0.5 * (1 + ops.cos(3.14159265 * ops.clip(step / steps, 0.0, 1.0)))


SCHEDULES = {"trapezoid": Trapezoid, "cosine": Cosine}


def plan_learning_rate(optimizer, schedule):
    """Lay a learning rate that is a number over the steps of a run.

    Args:
        optimizer: keras optimizer. If its learning rate is a schedule, that stays.
        schedule: "trapezoid", "cosine", or "constant" for the rate as it is.

    Returns:
        keras.Variable, to be given the planned number of steps. It belongs to the
        optimizer, so that every backend sees its changes and checkpoints hold it.

    Raises:
        ValueError: there is no such schedule.
    """
    if schedule not in (*SCHEDULES, "constant"):
        raise ValueError(
            f"expected a schedule of trapezoid, cosine or constant, received {schedule!r}"
        )
    steps = optimizer.add_variable((), initializer="ones", dtype="float32", name="planned_steps")
    rate = optimizer.get_config()["learning_rate"]
    if schedule != "constant" and isinstance(rate, float):
        optimizer.learning_rate = SCHEDULES[schedule](rate, steps)
    return steps
