"""Progress bars: in a notebook or a terminal, and only where work takes a while."""

import os


def show_progress(iterable=None, **options):
    """Return a tqdm bar that appears after two seconds, or never where `TQDM_DISABLE` is set.

    Args:
        iterable: what to go through, or None for a bar that is moved by hand.
        options: of `tqdm.auto.tqdm`, such as `desc`, `total`, `unit`, `delay` in seconds.

    Returns:
        tqdm bar. The notebook's own bar, unlike the terminal's, needs to be told of the variable.
    """
    from tqdm.auto import tqdm

    disable = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    return tqdm(iterable, **{"delay": 2, "disable": disable, **options})
