"""Ctrl-C, "interrupt kernel" and SIGTERM as a wish to stop, not an accident."""

import contextlib
import signal
import sys
import threading

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class StopRequest:
    """Says whether somebody asked for the end, and how (`name`, None if nobody did)."""

    name = None

    def __bool__(self):
        return self.name is not None


@contextlib.contextmanager
def note_interrupts():
    """Take the first Ctrl-C or SIGTERM as a request; a second one acts at once.

    Yields:
        StopRequest. In a thread other than the main one, where Python does not let
        signals be handled, it stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number, frame):
        if request:
            raise KeyboardInterrupt(f"{NAMES[number]}, the second one")
        request.name = NAMES[number]
        print(f"{request.name}: stopping after this step; once more stops at once", file=sys.stderr)

    previous = {number: signal.signal(number, note) for number in NAMES}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
