"""What happens between the steps: progress, validation, checkpoints."""

import json
import os
import time

import keras
import numpy as np

from seglib import metrics
from seglib.models import set_precision
from seglib.progress import show_progress


class Keeper(keras.callbacks.Callback):
    """Shows progress, validates, and keeps checkpoints while Keras trains."""

    def __init__(self, model, split, loss, state, epochs, policy):
        super().__init__()
        self.split, self.loss, self.state = split, loss, state
        self.epochs, self.policy = epochs, policy
        config = json.loads(json.dumps(model.get_config()))
        self.snapshot = keras.Model.from_config(config)  # holds the averaged weights
        self.scorer = keras.Model(self.snapshot.inputs, self.snapshot.outputs[-1])
        self.scorer.compile()

    def on_train_begin(self, logs=None):
        steps = self.params["steps"]
        self.bar = show_progress(
            total=steps * self.epochs, initial=steps * self.state.epoch, unit="step", delay=0
        )

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()
        self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()
        if not np.isfinite(logs["loss"]):
            self.bar.close()
            kept = self.state.files()
            raise FloatingPointError(
                f"the loss is {logs['loss']} in epoch {self.state.epoch + 1}, batch {batch + 1} of "
                f"{self.params['steps']}; "
                + (f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint yet")
                + ": lower learning_rate, or check images and class weights"
            )
        self.bar.set_postfix(loss=f"{logs['loss']:.3f}", **self._score_text(), refresh=False)

    def on_epoch_end(self, epoch, logs=None):
        state = self.state
        set_precision(self.snapshot, self.policy)
        copy_averaged(self.model, self.snapshot)
        scores = validate(self.scorer, self.split, self.loss) if len(self.split) else {}
        seconds = time.perf_counter() - self.start
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "val_loss": scores.get("loss", float("nan")),
            "pixel_accuracy": scores.get("pixel_accuracy", float("nan")),
            "mean_iou": scores.get("mean_iou", float("nan")),
            "seconds": round(seconds, 3),
        }
        state.epoch, state.history = epoch + 1, [*state.history, row]
        if np.isnan(row["mean_iou"]) or row["mean_iou"] > state.best_score:
            state.best_score = -1.0 if np.isnan(row["mean_iou"]) else row["mean_iou"]
            self._write_best()
        state.write(self.model)
        self.bar.set_postfix(loss=f"{row['loss']:.3f}", **self._score_text())

    def on_train_end(self, logs=None):
        self.bar.close()

    def _score_text(self):
        if not self.state.history:
            return {}
        return {"mean_iou": f"{self.state.history[-1]['mean_iou']:.3f}"}

    def _write_best(self):
        set_precision(self.snapshot, "float32")
        temporary = self.state.run_dir / "best.tmp.keras"
        self.snapshot.save(temporary)
        os.replace(temporary, self.state.run_dir / "best.keras")


def validate(scorer, split, loss, *, batch_size=16):
    """Return loss, pixel accuracy and mean IoU of a model on a prepared split.

    Args:
        scorer: keras.Model with one output, logits.
        split: PreparedSplit.
        loss: keras loss.
        batch_size: int.

    Returns:
        dict of floats.
    """
    ignore_label = split.classes.ignore_label
    num_classes = split.classes.num_classes
    total, matrix = 0.0, 0
    for start in range(0, len(split), batch_size):
        images, labels = split.images[start : start + batch_size], split.labels[start:][:batch_size]
        logits = scorer.predict_on_batch(np.asarray(images))
        total += float(loss(np.asarray(labels), logits)) * len(images)
        logits[..., np.setdiff1d(range(num_classes), split.classes.scored_ids)] = -np.inf
        matrix = matrix + metrics.confusion_matrix(
            labels, logits.argmax(axis=-1), num_classes=num_classes, ignore_label=ignore_label
        )
    return {
        "loss": total / len(split),
        "pixel_accuracy": float(metrics.pixel_accuracy(matrix)),
        "mean_iou": float(metrics.mean_iou(matrix, ignore_label=ignore_label)),
    }


def copy_averaged(model, snapshot):
    """Copy the weights, averaged ones where the optimizer keeps an average."""
    for source, target in zip(model.weights, snapshot.weights, strict=True):
        target.assign(source)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer.use_ema:
        averages = optimizer._model_variables_moving_average
        for average, target in zip(averages, snapshot.trainable_variables, strict=True):
            target.assign(average)
