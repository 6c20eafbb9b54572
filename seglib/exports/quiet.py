"""Converters that print hundreds of lines, kept silent unless they fail."""

import contextlib
import importlib.util
import logging
import sys
import tempfile
import threading
import warnings

from seglib.system import redirect

_lock = threading.RLock()  # what is hidden is the whole process's


@contextlib.contextmanager
def _hide_widgets():
    """In a notebook, let rich's progress bars, as of NNCF, be text, which is hidden."""
    if importlib.util.find_spec("rich") is None:
        yield
        return
    import rich

    console = rich.get_console()
    before, console.is_jupyter = console.is_jupyter, False
    try:
        yield
    finally:
        console.is_jupyter = before


@contextlib.contextmanager
def quiet():
    """Hide what is printed, by C++ code too; where an exception comes, its last lines are told."""
    with _lock, tempfile.TemporaryFile("w+", errors="replace") as file:
        before = logging.root.manager.disable
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        try:
            logging.disable(logging.WARNING)
            with (
                redirect((1, 2), file),
                warnings.catch_warnings(),
                contextlib.redirect_stdout(file),
                contextlib.redirect_stderr(file),
                _hide_widgets(),
            ):
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            file.seek(0)
            error.add_note("".join(file.readlines()[-15:]))
            raise
        finally:
            logging.disable(before)
