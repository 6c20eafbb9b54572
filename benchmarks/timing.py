"""Timing for the benchmarks: alternatives take turns, so that noise meets all alike."""

import os
import pathlib
import platform
import re
import statistics
import time

from seglib.system import list_units

UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # in rising order of what they are worth


def time_alternatives(alternatives, *, rounds=7):
    """Return the median seconds of each function, called in turns.

    Args:
        alternatives: dict name -> function without arguments.
        rounds: int, calls of each, after one that does not count.

    Returns:
        dict name -> float.
    """
    seconds = {name: [] for name in alternatives}
    for counts in [False] + [True] * rounds:
        for name, function in alternatives.items():
            start = time.perf_counter()
            function()
            if counts:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_ratios(title, seconds, *, reference):
    """Print each alternative's milliseconds, and how many times the reference's it takes."""
    print(f"\n{title} ({describe_machine()})")
    for name, value in seconds.items():
        print(f"  {name:45} {1e3 * value:9.2f} ms  {value / seconds[reference]:8.2f} ×")


def describe_machine():
    """Return processor, cores and its units for low precision, in a line."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return f"{platform.processor()}, {os.cpu_count()} cores"
    name = re.search(r"model name\s*: (.*)", text)
    units = [unit for unit in UNITS if unit in list_units()]
    return f"{name[1] if name else platform.machine()}, {os.cpu_count()} cores, {' '.join(units)}"
