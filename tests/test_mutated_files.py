"""Files as broken disks, downloads and strangers make them: read, or refused by name."""

import concurrent.futures
import io
import multiprocessing
import pathlib
import re
import signal
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from seglib.classes import ClassTable
from seglib.images import DatasetError, read_image
from seglib.masks import read_labels

TABLE = ClassTable(["a", "b", "c"], [(0, 0, 0), (128, 0, 0), (0, 128, 0)], ignore_label=255)


def create_originals():
    """Small files of every format and mode: `[(suffix, content)]`."""
    labels = np.kron(np.random.default_rng(0).integers(0, 3, (5, 7)), np.ones((8, 8))).astype("u1")
    colors, ids = Image.fromarray(TABLE.colors[labels]), Image.fromarray(labels)
    palette = ids.copy()
    palette.putpalette(TABLE.colors.ravel().tolist())
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photograph that lies on its side"
    pictures = [
        (".png", colors, {}),
        (".png", palette, {}),
        (".png", ids, {}),
        (".png", Image.fromarray(labels.astype(np.uint16)), {}),
        (".png", colors.convert("RGBA"), {"exif": exif}),
        (".jpeg", colors, {"exif": exif}),
        (".jpeg", colors.convert("CMYK"), {}),
        (".jpeg", colors, {"progressive": True}),
        (".tiff", colors, {"compression": "tiff_lzw"}),
        (".tiff", ids, {"compression": "tiff_deflate", "exif": exif}),
        (".tiff", Image.fromarray(labels.astype(np.float32)), {}),
        (".bmp", colors, {}),
        (".webp", colors, {"exif": exif}),
        (".webp", colors, {"lossless": True}),
        (".gif", palette, {}),
    ]
    originals = []
    for suffix, picture, options in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, suffix[1:], **options)
        originals.append((suffix, buffer.getvalue()))
    return originals


def truncate(content, random):
    return content[: random.integers(0, len(content))]


def flip_bytes(content, random):
    changed = bytearray(content)
    for _ in range(random.integers(1, 20)):
        changed[random.integers(len(changed))] ^= int(random.integers(1, 256))
    return bytes(changed)


def change_header(content, random):
    changed = bytearray(content)
    for _ in range(random.integers(1, 6)):
        changed[random.integers(min(64, len(changed)))] = int(random.choice([0, 1, 127, 255]))
    return bytes(changed)


def lose_or_repeat_a_part(content, random):
    stop, start = random.integers(0, len(content), 2)
    return content[:stop] + content[start:]


def claim_a_size(content, random):
    """Another size in the header, with a checksum that fits; the data stay small."""
    height, width = (int(random.choice([0, 1, 5000, 6900, 7100, 65535, 2**31 - 1])) for _ in "ab")
    short_height, short_width = height & 65535, width & 65535
    changed = content
    for form, before, after in (
        ("<II", (56, 40), (width, height)),  # BMP
        (">II", (56, 40), (width, height)),  # PNG
        ("<HH", (56, 40), (short_width, short_height)),  # GIF
        (">HH", (40, 56), (short_height, short_width)),  # JPEG
    ):
        changed = changed.replace(struct.pack(form, *before), struct.pack(form, *after))
    if content[:4] == b"\x89PNG":
        changed = changed[:29] + struct.pack(">I", zlib.crc32(changed[12:29])) + changed[33:]
    return changed if changed != content else flip_bytes(content, random)


def read_mutated(folder, count, seed):
    """What came of so many files, what was wrong, and the memory in bytes that it took.

    A hang ends the process, and leaves its file in the folder.
    """
    warnings.simplefilter("ignore")
    random, originals = np.random.default_rng(seed), create_originals()
    mutations = (truncate, flip_bytes, change_header, lose_or_repeat_a_part, claim_a_size)
    outcomes, wrong = [], []
    for i in range(count):
        suffix, content = originals[i % len(originals)]
        mutation = mutations[i // len(originals) % len(mutations)]
        path = folder / f"{i}_{mutation.__name__}{suffix}"
        path.write_bytes(mutation(content, random))
        signal.alarm(60)
        for function in (read_image, lambda path: read_labels(path, TABLE)):
            try:
                outcomes.append(function(path).dtype)
            except BaseException as error:
                outcomes.append("refused")
                if not isinstance(error, DatasetError) or str(path) not in str(error):
                    wrong.append(f"{path.name}: {type(error).__name__}: {error}")
        path.unlink()
    signal.alarm(0)
    # Not ru_maxrss, which a process takes over from the one that starts it.
    status = pathlib.Path("/proc/self/status").read_text()
    return outcomes, wrong, 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


@pytest.mark.parametrize(
    ("count", "seed"), [(300, 39), pytest.param(2000, 0, marks=pytest.mark.long)]
)
def test_damaged_files(tmp_path, count, seed):
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        outcomes, wrong, peak = pool.submit(read_mutated, tmp_path, count, seed).result(900)
    refused = outcomes.count("refused")
    assert wrong == []
    assert min(refused, 2 * count - refused) > 0.1 * count
    assert len(outcomes) == 2 * count
    assert set(outcomes) <= {"refused", np.dtype(np.uint8), np.dtype(np.uint16)}
    assert peak < 1e9
