"""What to do about the rare classes of a data set, from what was measured."""

import dataclasses
import pathlib

from seglib.balance.comparing import BASELINE, choose_method, find_rare
from seglib.balance.methods import LOSSES, PATCHES, SAMPLING, WEIGHTS, apply_method
from seglib.statistics import count_pixels

MEASURED = pathlib.Path(__file__).with_name("measured.csv")  # benchmarks/imbalance.py writes it


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class BalanceAdvice:
    """What to do about rare classes, and why; `recommend_balance` makes it.

    Args:
        loss: str, a loss or a way to weigh the classes, of `TRAINED_METHODS`.
        sampling: str, a way to sample, of `TRAINED_METHODS`, or None.
        rare: list of str, the rare classes.
        reasons: list of str, a sentence each.
    """

    loss: str
    sampling: str | None
    rare: list
    reasons: list

    def apply(self, dataset, *, augment=True, seed=0):
        """Return the data and the arguments of `seglib.train`, as `apply_method` does."""
        _, options = apply_method(self.loss, dataset, augment=augment)
        if self.sampling is None:
            return dataset, options
        dataset, added = apply_method(self.sampling, dataset, augment=augment, seed=seed)
        return dataset, {**added, "loss": options["loss"]}

    def __repr__(self):
        lines = [f"loss: {self.loss}", f"sampling: {self.sampling or 'each pair once an epoch'}"]
        return "\n".join([*lines, *(f"- {reason}" for reason in self.reasons)])


def recommend_balance(dataset, *, table=None):
    """Recommend a loss or weights, or a way to sample, for the classes of a data set.

    One of them: methods were measured one at a time, and what two gain together is not their sum.

    Args:
        dataset: PreparedDataset.
        table: DataFrame of `compare_methods`; None for what was measured on CamVid.

    Returns:
        BalanceAdvice; `advice.apply(dataset)` gives what `seglib.train` takes.

    Raises:
        ValueError: the training data hold no pixel of a scored class.
        FileNotFoundError: there is no table.
    """
    import pandas as pd

    if table is None and not MEASURED.is_file():
        raise FileNotFoundError(
            f"nothing was measured yet, there is no {MEASURED}: run benchmarks/imbalance.py, which "
            "writes it, or give table=, of compare_methods"
        )
    table = pd.read_csv(MEASURED, index_col="method") if table is None else table
    rare, reasons = _find_rare(dataset)
    if not rare:
        reasons.append("no class is rare: nothing has to be made up for")
        return BalanceAdvice(loss=BASELINE, sampling=None, rare=[], reasons=reasons)
    loss = choose_method(table[table.index.isin([*LOSSES, *WEIGHTS])])
    sampling = choose_method(table[table.index.isin([BASELINE, *SAMPLING, *PATCHES])])
    best, other = (loss, sampling)
    if table.loc[sampling, "rare_gain"] > table.loc[loss, "rare_gain"]:
        best, other = sampling, loss
    reasons.append(_tell_gain(table, best))
    if other != BASELINE:
        reasons.append(f"{_tell_gain(table, other)}; both at once were not measured")
    is_loss = best == loss
    return BalanceAdvice(
        loss=loss if is_loss else BASELINE,
        sampling=None if is_loss else sampling,
        rare=rare,
        reasons=reasons,
    )


def _find_rare(dataset):
    classes = dataset.classes
    counts = count_pixels(dataset.train, num_classes=classes.num_classes)
    if not counts[:, list(classes.scored_ids)].any():
        raise ValueError("the training data hold no pixel of a scored class")
    rare, found = find_rare(counts, classes), counts.any(axis=0)
    reasons = [f"{name} has {share:.2%} of the pixels" for name, share in rare.items()]
    reasons += [
        f"{classes.names[i]} has no training pixel: nothing helps"
        for i in classes.scored_ids
        if not found[i]
    ]
    return list(rare), reasons


def _tell_gain(table, method):
    row = table.loc[method]
    if method == BASELINE:
        return "no other loss gained rare classes anything at little cost to the others"
    return (
        f"{method}: {100 * row['rare_gain']:+.1f} points of mean IoU for rare classes, "
        f"{100 * row['gain']:+.1f} for all, against {BASELINE}, {int(row['seeds'])} seeds"
    )
