"""A generator that runs in a thread of its own, a little ahead of who takes its items."""

import contextlib
import queue
import threading

AHEAD = 2  # items that wait to be taken
PATIENCE = 5  # seconds to wait for a thread to end: nothing can wake one whose camera hangs
NAME = "seglib-stream"


def run_ahead(items, *, newest=False):
    """Yield what a generator yields, which runs in a thread, and raise what it raises.

    Closed early, it ends the thread, which closes the generator; so they can be chained.

    Args:
        items: generator.
        newest: bool. True forgets what was not taken yet when something newer comes.

    Example:
        >>> list(run_ahead(i**2 for i in range(4)))
        [0, 1, 4, 9]
    """
    results, closed = queue.Queue(AHEAD), threading.Event()
    # Daemons do not keep a program from ending whose last stream nobody closed.
    arguments = (items, results, closed, newest)
    thread = threading.Thread(target=_work, args=arguments, name=NAME, daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            item, error = result
            if error is not None:
                raise error
            yield item
    finally:
        closed.set()
        _clear(results)  # makes room for the one result that may still be put
        thread.join(PATIENCE)


def _work(items, results, closed, newest):
    """Put `(item, None)` for each item, then None, or `(None, error)`."""
    try:
        with contextlib.closing(items):
            for item in items:
                if newest:
                    _clear(results)
                results.put((item, None))
                if closed.is_set():
                    return
        results.put(None)
    except BaseException as error:  # a SystemExit too belongs to who takes the items
        results.put((None, error))


def _clear(results):
    with contextlib.suppress(queue.Empty):
        while True:
            results.get_nowait()
