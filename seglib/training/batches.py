"""Training pairs in batches, in an order that can be repeated."""

import copy

import keras
import numpy as np

from seglib.augment import augment_pair, blend_pairs, choose_augmentation, soften

ENDLESS = 10**9  # steps: more than any budget allows


class Batches(keras.utils.PyDataset):
    """All batches of a run, one after the other; each is a function of (seed, step) alone.

    So training can start at any step, and sees there what it would have seen anyway. All are of
    one size: the last of an epoch is filled up with pairs of the same epoch, changed in another
    way. A last batch of one picture would move weights and statistics as far as a whole one.

    They are read one at a time, by one worker: TensorFlow's pipeline does so while a step
    computes. Threads gained nothing: a pair's many short calls hold Python's lock in between,
    two threads changed as many a second as one.

    Args:
        split: PreparedSplit.
        batch_size: int.
        seed: int, of the order and the augmentation.
        augment: bool or Augmentation.
        heads: int, how often the labels are given, once for each output of the model.
        start: int, the step of the run that index 0 stands for.
        steps: int, how many steps the run has at the most.
        sampling: `(len(split),)` numbers ≥ 0 by which pairs are drawn, with replacement; None:
            each once an epoch.
    """

    def __init__(
        self, split, *, batch_size, seed, augment, heads, start=0, steps=ENDLESS, sampling=None
    ):
        super().__init__()
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.augmentation, self.heads = choose_augmentation(augment), heads
        self.start, self.steps, self.sampling = start, steps, _check_sampling(sampling, split)

    @property
    def steps_per_epoch(self):
        """int, the last step, which is filled up, included."""
        return -(-len(self.split) // self.batch_size)

    def resize(self, batch_size):
        """Return the same in batches of another size; `start` and `steps` are as they were."""
        batches = copy.copy(self)
        batches.batch_size = batch_size
        return batches

    def __len__(self):
        return max(0, self.steps - self.start)

    def __getitem__(self, index):
        epoch, batch = divmod(self.start + index, self.steps_per_epoch)
        order, start = self._draw_order(epoch), batch * self.batch_size
        places = range(start, start + min(self.batch_size, len(order)))
        pairs = [self._read_pair(int(order[p % len(order)]), epoch, p) for p in places]
        images, labels = (np.stack(parts) for parts in zip(*pairs, strict=True))
        return images, (labels,) * self.heads if self.heads > 1 else labels

    def _draw_order(self, epoch):
        random = np.random.default_rng([self.seed, epoch])
        if self.sampling is None:
            return random.permutation(len(self.split))
        return random.choice(len(self.split), len(self.split), p=self.sampling)

    def _read_pair(self, index, epoch, place):
        pair = self._change_pair(self.split[index], epoch, place)
        if not getattr(self.split, "is_soft", False):
            return pair
        classes, share = self.split.classes, float(self.split.share[index])
        options = {"num_classes": classes.num_classes, "ignore_label": classes.ignore_label}
        if share == 1:
            return pair[0], soften([(pair[1], 1.0)], **options)
        # Both are changed alike, so that the patch stays where it is.
        other = self._change_pair(self.split.partner(index), epoch, place)
        return blend_pairs(pair, other, share=share, **options)

    def _change_pair(self, pair, epoch, place):
        if self.augmentation is None:
            return pair
        return augment_pair(
            *pair,
            seed=self.seed,
            epoch=epoch,
            # Not the pair's own: one drawn twice is changed twice. 0 drew the order.
            index=place + 1,
            augmentation=self.augmentation,
            ignore_label=self.split.classes.ignore_label,
            partners=self.split,
        )


def _check_sampling(sampling, split):
    if sampling is None:
        return None
    weights = np.asarray(sampling, float)
    if weights.shape != (len(split),) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"expected sampling to be a finite number of at least 0 for each of {len(split)} "
            f"training pairs, received {sampling!r}"
        )
    if not weights.any():
        raise ValueError("sampling is 0 for all training pairs: none could be drawn")
    return weights / weights.sum()
