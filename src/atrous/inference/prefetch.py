"""Reading one item ahead, so that decoding and the network work at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def iter_ahead(read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Future[Result]]]:
    """Yield each item with its reading, while a thread reads the next one.

    An error of `read` is raised by the `result()` of its own item, so that the caller may pass over it.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        before: tuple[Item, Future[Result]] | None = None
        for item in items:
            coming = item, pool.submit(read, item)
            if before is not None:
                yield before
            before = coming
        if before is not None:
            yield before
