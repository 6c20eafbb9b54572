"""A name for what a data set holds and how it is prepared."""

import contextlib
import hashlib
import json
import os

from seglib.caching.threads import map_in_order
from seglib.system import show_progress

VERSION = 2  # raise it when the same files and settings give other arrays
READERS, FILES_AT_ONCE = 8, 32  # threads: disks at the end of a network are slow to answer


def digest_dataset(dataset, index, **settings):
    """Digest of every file's content, the class table and the settings.

    Args:
        dataset: Dataset.
        index: path of a file that keeps the digests of files.
        settings: what else the arrays depend on, as JSON holds it.

    Returns:
        str of 32 hexadecimal digits.
    """
    digests = _digest_files(dataset, index)
    content = {
        "version": VERSION,
        "settings": settings,
        "classes": dataset.classes.to_dict(),
        "colors": [[*color, label] for color, label in dataset.classes.mapping.items()],
        "splits": {
            name: [split.encoding,
                   *([image.name, digests[image], digests[mask]] for image, mask in split.pairs)]
            for name, split in dataset.splits.items()
        },
    }  # fmt: skip
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def _digest_files(dataset, index):
    """`{path: digest}`. A file is only read when its size or a time changed.

    What was read is noted at once in a file that grows, so that a kill loses little.
    """
    known, digests = _read_index(index), {}
    pairs = [pair for split in dataset.splits.values() for pair in split.pairs]
    files = list(dict.fromkeys(file for pair in pairs for file in pair))
    parts = [files[i : i + FILES_AT_ONCE] for i in range(0, len(files), FILES_AT_ONCE)]

    def look_at(part):
        names = [os.path.abspath(file) for file in part]
        return [(file, name, _digest(name, known.get(name)))
                for file, name in zip(part, names, strict=True)]  # fmt: skip

    with (
        open(index, "a", encoding="utf-8") as stream,
        show_progress(total=len(files), desc="comparing", unit="file") as bar,
    ):
        for found in map_in_order(look_at, parts, workers=READERS):
            digests.update((file, entry[-1]) for file, _, entry in found)
            new = [[name, *entry] for _, name, entry in found if known.get(name) != entry]
            stream.writelines(json.dumps(line) + "\n" for line in new)
            stream.flush()
            bar.update(len(found))
    return digests


def _digest(file, known):
    """`[size, times, digest]` of a file, whose known one is returned where it still holds.

    The time of the change of status shows also a change that kept the time of modification.
    """
    status = os.stat(file)
    seen = [status.st_size, [status.st_mtime_ns, status.st_ctime_ns]]
    if known is not None and known[:2] == seen:
        return known
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
    return [*seen, digest.hexdigest()]


def _read_index(index):
    known = {}
    with contextlib.suppress(OSError), open(index, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            with contextlib.suppress(ValueError, TypeError):  # half a line, after a kill
                name, *entry = json.loads(line)
                known[name] = entry
    return known
