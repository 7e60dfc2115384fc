"""Reading a few items ahead, so that decoding and the network work at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from atrous.core.machine import count_usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 4


def iter_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], *, ahead: int = 1
) -> Iterator[tuple[Item, Future[Result]]]:
    """Yield each item with its reading, in order, while threads read the next ones.

    An error of `read` is raised by the `result()` of its own item, so that the caller may pass over it.

    Args:
        read: What is done with each item.
        items: The items.
        ahead: Number of items that are read before they are needed; 0 reads each one in the caller's thread.
    """
    if ahead == 0:
        for item in items:
            yield item, _read_now(read, item)
        return
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(max_workers=min(ahead, MOST_THREADS, count_usable_cores())) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(read, item)))
                if len(waiting) > ahead:
                    yield waiting.popleft()
        except Exception:  # of the items themselves: those before it are fine
            yield from waiting
            raise
        while waiting:
            yield waiting.popleft()


def _read_now(read: Callable[[Item], Result], item: Item) -> Future[Result]:
    reading: Future[Result] = Future()
    try:
        reading.set_result(read(item))
    except Exception as error:
        reading.set_exception(error)
    return reading
