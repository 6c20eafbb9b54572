"""Work in threads that are never far ahead of what becomes of it."""

import collections
import concurrent.futures
import os

AHEAD = 4  # results a thread may be ahead: with what is under way, they are what takes memory


def count_processors():
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def map_in_order(function, tasks, *, workers):
    """Yield `function(task)` for each task, in their order.

    Unlike `Executor.map`, which starts all tasks and keeps all results that nobody took yet.

    Args:
        function: what threads call.
        tasks: iterable, also a long one.
        workers: int, threads.
    """
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    waiting = collections.deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) == AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
