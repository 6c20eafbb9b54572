"""Converters that print hundreds of lines, kept silent unless they fail."""

import contextlib
import logging
import os
import sys
import tempfile
import warnings


@contextlib.contextmanager
def quiet():
    """Hide what is printed, by C++ code too; where an exception comes, its last lines are told."""
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        saved = [os.dup(number) for number in (1, 2)]
        before = logging.root.manager.disable
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            logging.disable(logging.WARNING)
            with (
                warnings.catch_warnings(),
                contextlib.redirect_stdout(file),
                contextlib.redirect_stderr(file),
            ):
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            file.seek(0)
            error.add_note("".join(file.readlines()[-15:]))
            raise
        finally:
            logging.disable(before)
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)
