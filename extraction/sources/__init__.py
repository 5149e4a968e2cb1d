"""Data sources, one data set a file."""

from lamofcbench.registry import Registry

__all__ = ["SOURCES"]

SOURCES = Registry(
    "source",
    {
        "digits": "extraction.sources.digits:Digits",
        "digits_vqa": "extraction.sources.digits_vqa:DigitsVqa",
    },
)
