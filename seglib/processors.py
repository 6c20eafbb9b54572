"""What the processor of this machine computes by itself."""

import functools
import pathlib


@functools.cache
def list_units():
    """Return the names of the processor's extensions, such as "avx2" (Linux; elsewhere none)."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return frozenset(next(flags, "").split())


def has_bfloat16_units():
    """Return whether this processor multiplies bfloat16 itself."""
    return not list_units().isdisjoint({"amx_bf16", "avx512_bf16"})


def has_only_avx2():
    """Return whether this is an x86 processor with AVX2 but no AVX-512, as most of laptops."""
    return "avx2" in list_units() and "avx512f" not in list_units()
