"""What a method against imbalance gains rare classes, and what it costs all of them."""

from seglib.balance.weights import check_counts, find_present

BASELINE = "cross-entropy"
MAX_LOSS = 0.01  # of the mean IoU of all classes, that a method may cost
RARE_SHARE = 0.25  # of what each class would have if all had as many pixels


def find_rare(counts, classes):
    """Return which classes have less than a quarter of an equal share of the pixels.

    Args:
        counts: int array `(num_images, num_classes)`, pixels, as `statistics.count_pixels`
            returns it.
        classes: ClassTable of `num_classes` classes.

    Returns:
        dict `{name: share in (0, 1)}` in the table's order; a class without a pixel is not in it.

    Raises:
        ValueError: `counts` has a wrong shape, is negative or holds no scored pixel.

    Example:
        >>> from seglib.classes import ClassTable
        >>> table = ClassTable(["road", "car"], [(128, 64, 128), (64, 0, 128)])
        >>> find_rare([[95, 5]], table)
        {'car': 0.05}
    """
    counts = check_counts(counts)
    present = find_present(counts, classes.ignore_label)
    pixels, scored = counts.sum(axis=0), list(classes.scored_ids)
    shares = pixels / pixels[scored].sum()
    rare = present & (shares < RARE_SHARE / len(scored))
    return {classes.names[i]: float(shares[i]) for i in rare.nonzero()[0]}


def compare_methods(rows, *, rare, baseline=BASELINE):
    """Summarize runs of several methods, seed by seed against a baseline.

    Args:
        rows: DataFrame, a row a class of a run: method, seed, class, iou.
        rare: list of str, the names of the rare classes.
        baseline: str, the method that gains and losses are counted from.

    Returns:
        DataFrame, a row a method, the largest rare_gain first: seeds (how many); mean_iou,
        rare_iou and common_iou, means over the seeds, each with _low and _high, the lowest and
        highest seed; gain and rare_gain, mean differences to the baseline's runs of the same seeds
        (NaN where there is none).

    Raises:
        ValueError: a rare class, or the baseline, has no row.
    """
    import pandas as pd

    missing = set(rare) - set(rows["class"])
    if missing or not (rows["method"] == baseline).any():
        what = f"classes {sorted(missing)}" if missing else f"method {baseline!r}"
        raise ValueError(f"the rows hold no {what}: expected runs of all of them")
    is_rare = rows["class"].isin(rare)
    runs = pd.DataFrame(
        {
            name: chosen.groupby(["method", "seed"], sort=False)["iou"].mean()
            for name, chosen in (
                ("mean_iou", rows),
                ("rare_iou", rows[is_rare]),
                ("common_iou", rows[~is_rare]),
            )
        }
    )
    gains = runs - runs.loc[baseline].reindex(runs.index.get_level_values("seed")).to_numpy()
    methods = runs.groupby("method", sort=False)
    table = methods.mean()
    for name in runs:
        table[f"{name}_low"], table[f"{name}_high"] = methods[name].min(), methods[name].max()
    table.insert(0, "seeds", methods.size())
    gains = gains.groupby("method", sort=False).mean()
    table["gain"], table["rare_gain"] = gains["mean_iou"], gains["rare_iou"]
    return table.sort_values("rare_gain", ascending=False)


def choose_method(table, *, max_loss=MAX_LOSS):
    """Return the method that gains rare classes most and costs all classes little.

    Args:
        table: DataFrame of `compare_methods`; methods of one seed are passed over where others
            have more.
        max_loss: float, how much mean IoU over all classes a method may cost.

    Returns:
        str; the baseline where nothing gains.
    """
    several = table["seeds"] >= min(2, table["seeds"].max())  # one lucky seed is no evidence
    allowed = table[several & (table["gain"] >= -max_loss)]
    return allowed["rare_gain"].idxmax()
