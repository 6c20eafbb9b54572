"""What is wrong with a data set, found before anything is trained on it."""

import os
import pathlib

from seglib.checks import files, labels, leaks
from seglib.checks.looking import look_at_pairs
from seglib.checks.reporting import DatasetReport, Example, Finding
from seglib.images import check_image_size

__all__ = ["DatasetReport", "Example", "Finding", "check_dataset"]


def check_dataset(dataset, *, image_size=(128, 128), workers=None):
    """Look at every pair of a data set once, and report what is wrong or worth knowing.

    An error makes labels wrong, or is refused when it is read; a warning flatters scores or
    spoils some; a note is good to know.

    Args:
        dataset: Dataset, or path of its folder, in which halves of pairs may be missing.
        image_size: `(height, width)` that will be trained at; regions of less than one of its
            pixels are too small to survive.
        workers: int or None, threads.

    Returns:
        DatasetReport. `plots.plot_findings` shows examples.

    Raises:
        DatasetError: there is no pair in the folder, or no class table.
    """
    image_size = check_image_size(image_size)
    if isinstance(dataset, str | os.PathLike):
        from seglib.datasets import open_dataset

        dataset = open_dataset(dataset, unpaired="skip")
    looks = look_at_pairs(dataset, image_size=image_size, workers=workers)
    findings = [
        *files.check_files(looks, dataset, image_size),
        *labels.check_labels(looks, dataset, image_size),
        *leaks.check_leaks(looks, dataset),
    ]
    return DatasetReport(
        path=pathlib.Path(dataset.path),
        classes=dataset.classes,
        sizes={name: len(split) for name, split in dataset.splits.items()},
        image_size=image_size,
        findings=tuple(sorted(findings, key=lambda finding: finding.rank)),
    )
