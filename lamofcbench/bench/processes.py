"""Running several things at a time, in processes of their own."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["run_all"]


def run_all(
    work: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    workers: int,
    step: Callable[[], object] = lambda: None,
) -> list[Any]:
    """Call a function several times, at most so many at once.

    Args:
        work: a function of a module.
        calls: its arguments.
        workers: processes; with one, all runs in this one.
        step: called after each.

    Returns:
        What it returned, in the order of ``calls``.
    """
    results = []
    if workers == 1 or len(calls) < 2:
        for arguments in calls:
            results.append(work(*arguments))
            step()
        return results
    # Fresh processes: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        futures = [pool.submit(work, *arguments) for arguments in calls]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                step()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]
