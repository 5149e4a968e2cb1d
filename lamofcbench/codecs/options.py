"""Parameters of codecs, read from text and checked."""

import math
from collections.abc import Mapping, Sequence

from lamofcbench.codecs.base import parameter
from lamofcbench.errors import SampleError

__all__ = ["decimal", "known_only", "whole"]


def known_only(codec: str, given: Mapping[str, str], known: Sequence[str]) -> None:
    """Refuse parameters that a codec doesn't have.

    Raises:
        SampleError: there is one.
    """
    if extra := set(given) - set(known):
        *most, last = known
        names = f"{', '.join(most)} and {last}" if most else last
        raise SampleError(f"{codec} has no parameter {min(extra)!r}, only {names}")


def whole(given: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Read an integer.

    Raises:
        SampleError: it is none, or not from ``low`` to ``high``.
    """
    value: int = parameter(given.get(name, str(default)), int, name)
    if not low <= value <= high:
        raise SampleError(f"{name}={value}: needs {low} to {high}")
    return value


def decimal(given: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    """Read a decimal number.

    Raises:
        SampleError: it is none, or not from ``low`` to ``high``.
    """
    value: float = parameter(given.get(name, str(default)), float, name)
    if not (math.isfinite(value) and low <= value <= high):
        raise SampleError(f"{name}={value:g}: needs {low:g} to {high:g}")
    return value
