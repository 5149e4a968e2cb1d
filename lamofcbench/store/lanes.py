"""Doing several things at once, in order, in bounded memory, and each thing only once.

Everything here belongs to one process: after a fork it starts anew, for threads do not survive one.
"""

import concurrent.futures
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["Lanes", "Once"]

Thing = TypeVar("Thing")
Result = TypeVar("Result")

_inherited: list[ThreadPoolExecutor] = []


class Lanes:
    """A pool of threads, made when first needed.

    Tasks must not use the pool that they run in, or all of its threads may wait for one another.
    """

    def __init__(self, count: int) -> None:
        """Plan ``count`` threads."""
        self._count = count
        self._pid = -1
        self._pool: ThreadPoolExecutor | None = None

    @property
    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pid != os.getpid():
            # Threads do not survive a fork; what is left of their pool may hold locks for ever.
            if self._pool is not None:
                _inherited.append(self._pool)
            self._pool, self._pid = ThreadPoolExecutor(self._count, "lamofcbench"), os.getpid()
        return self._pool

    def map(self, make: Callable[[Thing], Result], things: Sequence[Thing]) -> list[Result]:
        """Make a result of each thing, all at once; in order.

        Raises:
            Exception: the first failure; what had not begun is dropped.
        """
        if len(things) < 2:
            return [make(thing) for thing in things]
        tasks = [self._threads.submit(make, thing) for thing in things]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            for task in tasks:
                task.cancel()
            concurrent.futures.wait(tasks)
            raise

    def ahead(
        self,
        make: Callable[[Thing], Result],
        things: Sequence[Thing],
        weigh: Callable[[Thing], int],
        limit: int,
    ) -> Iterator[Result]:
        """Make results in order, the next ones while the last one is used.

        Args:
            make: of one thing its result.
            things: in order.
            weigh: bytes that a thing's result will take.
            limit: bytes that waiting results may take together; a heavier one comes alone.
        """
        waiting: deque[tuple[Future[Result], int]] = deque()
        held = 0
        try:
            for thing in things:
                weight = weigh(thing)
                while waiting and (len(waiting) >= self._count or held + weight > limit):
                    held -= waiting[0][1]
                    yield waiting.popleft()[0].result()
                waiting.append((self._threads.submit(make, thing), weight))
                held += weight
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for task, _ in waiting:
                task.cancel()


class Once:
    """Remembers results by key; whoever asks while one is being made waits for it."""

    def __init__(self, most: int) -> None:
        """Remember at most ``most`` results, those that were made last."""
        self._most = most
        self._pid = -1
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        done = getattr(self, "_made", {})
        # What another process was making will never be ready in this one.
        self._made: dict[Hashable, Future[Any]] = {
            key: task for key, task in done.items() if task.done()
        }
        self._pid = os.getpid()

    def get(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """Return the key's result, made if need be; a failure is not remembered."""
        if self._pid != os.getpid():
            self._renew()
        with self._lock:
            task = self._made.get(key)
            mine = task is None
            if task is None:
                task = self._made[key] = Future()
                while len(self._made) > self._most:
                    del self._made[next(iter(self._made))]
        if mine:
            try:
                task.set_result(make())
            except BaseException as error:
                with self._lock:
                    self._made.pop(key, None)
                task.set_exception(error)
        result: Result = task.result()
        return result
