"""Within what limits a family's features must lie to be like those of real models.

One file a family, ``bands/<family>.toml``: limits for miniatures, figures measured on real models,
and published ranges. Keys are named by patterns, as in a shell.
"""

import fnmatch
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Self

from lamofcbench.errors import DeclarationError
from lamofcbench.metrics.statistics import Statistics

__all__ = ["BANDED", "Bands"]

BANDED = tuple(
    name for name in Statistics.__dataclass_fields__ if name not in ("minimum", "maximum")
)
"""Figures that may have limits."""


@dataclass(frozen=True)
class Bands:
    """One family's limits, and what real models have.

    Attributes:
        band: (pattern, limits): lowest and highest value by figure.
        real: (pattern, entry): figures of a real model and its name, ``model``.
        published: (pattern, entry): ``range``, smallest and largest value, and ``model``.
    """

    band: tuple[tuple[str, Mapping[str, tuple[float, float]]], ...] = ()
    real: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    published: tuple[tuple[str, Mapping[str, Any]], ...] = field(default=())

    @classmethod
    def load(cls, family: str) -> Self:
        """Read a family's file; empty if it has none.

        Raises:
            DeclarationError: it is malformed.
        """
        path = resources.files("lamofcbench") / "metrics" / "bands" / f"{family}.toml"
        if not path.is_file():
            return cls()
        return cls.parse(path.read_text("utf-8"), f"{family}.toml")

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Parse a file's text; ``where`` is its name, for messages.

        Raises:
            DeclarationError: it is malformed.
        """
        try:
            data = tomllib.loads(text)
            band = tuple((entry.pop("keys"), _limits(entry)) for entry in data.pop("band", []))
            real, published = (
                tuple((entry.pop("keys"), entry) for entry in data.pop(name, []))
                for name in ("real", "published")
            )
        except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
            raise DeclarationError(f"{where}: {error}") from None
        if data:
            raise DeclarationError(f"{where}: unknown table {min(data)!r}")
        return cls(band, real, published)

    def limits(self, key: str) -> dict[str, tuple[float, float]]:
        """All limits of a key; later entries override earlier ones."""
        merged: dict[str, tuple[float, float]] = {}
        for pattern, limits in self.band:
            if fnmatch.fnmatchcase(key, pattern):
                merged.update(limits)
        return merged

    def known(self, key: str) -> list[Mapping[str, Any]]:
        """What is known of a key in real models, measured or published."""
        entries = (*self.real, *self.published)
        return [entry for pattern, entry in entries if fnmatch.fnmatchcase(key, pattern)]

    def outside(self, key: str, found: Statistics) -> list[str]:
        """Say which figures of a key lie outside its limits."""
        values = found.as_dict()
        return [
            f"{key}: {name} is {values[name]:.4g}, not in {low:g} to {high:g}"
            for name, (low, high) in self.limits(key).items()
            if not low <= values[name] <= high
        ]


def _limits(entry: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    limits = {}
    for name, pair in entry.items():
        if name not in BANDED:
            raise ValueError(f"no figure {name!r}")
        low, high = pair
        if not low <= high:
            raise ValueError(f"{name}: {low} is above {high}")
        limits[name] = (float(low), float(high))
    return limits
