"""Training pairs in batches, in an order that can be repeated."""

import keras
import numpy as np

from seglib.augment import augment_pair


class Batches(keras.utils.PyDataset):
    """Batches of training pairs; each is a function of (seed, epoch, batch) alone.

    Args:
        split: PreparedSplit.
        batch_size: int.
        seed, epoch: ints, of the order and the augmentation, and the epoch to begin with.
        augment: bool.
        heads: int, how often the labels are given, once for each output of the model.
    """

    def __init__(self, split, *, batch_size, seed, augment, heads, epoch=0):
        super().__init__()
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.augment, self.heads, self.epoch = augment, heads, epoch

    def __len__(self):
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, batch):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.split))
        chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        pairs = [self.split[i] for i in chosen]
        if self.augment:
            pairs = [
                augment_pair(image, labels, seed=self.seed, epoch=self.epoch, index=int(i))
                for i, (image, labels) in zip(chosen, pairs, strict=True)
            ]
        images, labels = (np.stack(parts) for parts in zip(*pairs, strict=True))
        return images, (labels,) * self.heads if self.heads > 1 else labels

    def on_epoch_end(self):
        self.epoch += 1
