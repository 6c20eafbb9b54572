"""What the truth of a batch says: which class a pixel is, and whether it counts."""

from keras import ops


def is_shares(y_true, y_pred):
    """Whether the truth is shares of classes, not ids."""
    alike = len(y_true.shape) == len(y_pred.shape)
    return alike and y_true.shape[-1] == y_pred.shape[-1] != 1


def valid_shares(y_true, y_pred, ignore_label):
    """Shares `(batch, height, width, num_classes)`, 0 where ignored; and how much they count."""
    if is_shares(y_true, y_pred):
        shares = ops.cast(y_true, y_pred.dtype)
        return shares, ops.sum(shares, axis=-1, keepdims=True)
    labels, valid = valid_labels(y_true, y_pred, ignore_label)
    shares = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype) * valid[..., None]
    return shares, valid[..., None]


def valid_labels(y_true, y_pred, ignore_label):
    """Labels as int32 `(batch, height, width)`, 0 where ignored; and 1.0 where they count."""
    labels = ops.cast(y_true, "int32")
    if len(labels.shape) == len(y_pred.shape):
        labels = ops.squeeze(labels, axis=-1)
    if ignore_label is None:
        return labels, ops.ones_like(labels, dtype=y_pred.dtype)
    valid = ops.not_equal(labels, ignore_label)
    return ops.where(valid, labels, 0), ops.cast(valid, y_pred.dtype)


def divide(total, count):
    """`total / count`, and 0 where nothing was counted (a total of 0 as well)."""
    return total / ops.maximum(count, 1e-7)
