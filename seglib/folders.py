"""Folders that results are written to."""

import pathlib
import tempfile


def make_folder(path, purpose):
    """Create a folder if needed, and make sure that it can be written.

    Raises:
        OSError: it cannot; the message says what for and what to do.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise type(error)(
            f"{purpose} cannot be written to {path} ({error.strerror}): choose another folder, "
            "on Kaggle one in /kaggle/working"
        ) from error
    return path
