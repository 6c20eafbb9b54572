"""Durations and sizes as people write them."""

import re

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3}
BYTES = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


def parse_duration(duration):
    """Return the seconds of a duration.

    Args:
        duration: number of seconds, or str such as "11h30m", "90s", "1.5h", "2d", "5ms".

    Returns:
        float.

    Raises:
        ValueError: it is no duration, or not longer than 0.

    Example:
        >>> parse_duration("11h30m"), parse_duration("1.5h"), parse_duration(90)
        (41400.0, 5400.0, 90.0)
    """
    text = str(duration).replace(" ", "").lower()
    parts = re.findall(r"(\d+\.?\d*|\.\d+)(ms|[dhms])", text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    else:
        seconds = _parse_number(text)
    if isinstance(duration, bool) or not 0 < seconds < float("inf"):
        raise ValueError(
            f'expected a duration such as "11h30m", "90s" or "1.5h", or a number of seconds, '
            f"received {duration!r}"
        )
    return seconds


def parse_size(size):
    """Return the bytes of a size.

    Args:
        size: number of bytes, or str such as "19GB", "500 MB" (powers of 1000).

    Returns:
        int.

    Raises:
        ValueError: it is no size.

    Example:
        >>> parse_size("1.5GB")
        1500000000
    """
    match = re.fullmatch(r"(\d+\.?\d*)([kmgt]?)b?", str(size).replace(" ", "").lower())
    if match is None or isinstance(size, bool):
        raise ValueError(f'expected a size such as "19GB" or a number of bytes, received {size!r}')
    return int(float(match[1]) * BYTES[match[2]])


def format_duration(seconds):
    """Return a duration for people.

    Example:
        >>> format_duration(41400), format_duration(75), format_duration(2.5)
        ('11 h 30 min', '1 min 15 s', '2.5 s')
    """
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _parse_number(text):
    try:
        return float(text)
    except ValueError:
        return float("nan")
