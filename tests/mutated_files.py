"""Files as broken disks, broken downloads and strangers make them, read in a process of its own.

As a script it reads COUNT files that it mutates and prints, as JSON, what came of them:
`mutated_files.py FOLDER COUNT SEED`.
"""

import io
import json
import pathlib
import re
import signal
import struct
import sys
import time
import warnings
import zlib

import numpy as np
from PIL import Image

from seglib.classes import ClassTable
from seglib.images import DatasetError, read_image
from seglib.masks import read_labels

TABLE = ClassTable(["a", "b", "c"], [(0, 0, 0), (128, 0, 0), (0, 128, 0)], ignore_label=255)
SECONDS = 20  # for one file


def create_originals():
    """Small files of every format and mode: `[(suffix, content)]`."""
    labels = np.kron(np.random.default_rng(0).integers(0, 3, (5, 7)), np.ones((8, 8))).astype("u1")
    colors = Image.fromarray(TABLE.colors[labels])
    palette = Image.fromarray(labels)
    palette.putpalette(TABLE.colors.ravel().tolist())
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photograph that lies on its side"
    pictures = [
        (".png", colors, {}),
        (".png", palette, {}),
        (".png", Image.fromarray(labels), {}),
        (".png", Image.fromarray(labels.astype(np.uint16)), {}),
        (".png", colors.convert("RGBA"), {"exif": exif}),
        (".jpg", colors, {"exif": exif}),
        (".jpg", colors.convert("CMYK"), {}),
        (".jpg", colors, {"progressive": True}),
        (".tif", colors, {"compression": "tiff_lzw"}),
        (".tif", Image.fromarray(labels), {"compression": "tiff_deflate", "exif": exif}),
        (".tif", Image.fromarray(labels.astype(np.float32)), {}),
        (".bmp", colors, {}),
        (".webp", colors, {"exif": exif}),
        (".webp", colors, {"lossless": True}),
        (".gif", palette, {}),
    ]
    originals = []
    for suffix, picture, options in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, {".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:]), **options)
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


def lose_the_middle(content, random):
    start, stop = sorted(random.integers(0, len(content), 2))
    return content[:start] + content[stop:]


def repeat_a_part(content, random):
    start, stop = sorted(random.integers(0, len(content), 2))
    return content[:stop] + content[start:]


def claim_a_size(content, random):
    """Another size in the header, with a checksum that fits; the data stay small."""
    height, width = (int(random.choice([0, 1, 5000, 6900, 7100, 65535, 2**31 - 1])) for _ in "ab")
    if content[:4] == b"\x89PNG":
        header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    if content[:2] == b"BM":
        return content[:18] + struct.pack("<II", width, height) + content[26:]
    if content[:3] == b"GIF":
        size = struct.pack("<HH", width & 65535, height & 65535)
        place = content.index(b",", 13 + 3 * 2 ** ((content[10] & 7) + 1)) + 5
        return content[:6] + size + content[10:place] + size + content[place + 4 :]
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        if content[:2] == b"\xff\xd8" and marker in content:
            place = content.index(marker) + 5
            size = struct.pack(">HH", height & 65535, width & 65535)
            return content[:place] + size + content[place + 4 :]
    return flip_bytes(content, random)


MUTATIONS = (truncate, flip_bytes, change_header, lose_the_middle, repeat_a_part, claim_a_size)


def read(path):
    """What came of a file, read as a photograph and as a mask."""
    outcome = "refused"
    for function in (read_image, lambda path: read_labels(path, TABLE)):
        try:
            found = function(path)
        except DatasetError as error:
            if str(path) not in str(error):
                raise RuntimeError(f"the message names no file: {error}") from None
            continue
        assert found.dtype in (np.uint8, np.uint16), found.dtype
        outcome = "decoded"
    return outcome


def main(folder, count, seed):
    warnings.simplefilter("ignore")
    random, originals = np.random.default_rng(seed), create_originals()
    counts, wrong, slowest = {"decoded": 0, "refused": 0}, [], 0.0
    for i in range(count):
        suffix, content = originals[i % len(originals)]
        mutation = MUTATIONS[i // len(originals) % len(MUTATIONS)]
        path = pathlib.Path(folder, f"{i}_{mutation.__name__}{suffix}")
        path.write_bytes(mutation(content, random))
        signal.alarm(SECONDS)  # a hang ends the process
        start = time.perf_counter()
        try:
            counts[read(path)] += 1
        except BaseException as error:
            wrong.append(f"{path.name}: {type(error).__name__}: {error}")
        slowest = max(slowest, time.perf_counter() - start)
        if not wrong or path.name not in wrong[-1]:
            path.unlink()
    signal.alarm(0)
    # Not ru_maxrss, which a process takes over from the one that starts it.
    status = pathlib.Path("/proc/self/status").read_text()
    peak = 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    print(json.dumps({**counts, "wrong": wrong, "slowest": slowest, "peak": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
