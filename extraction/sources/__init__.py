"""Data sources, one data set a file."""

from lamofcbench.registry import Registry

__all__ = ["SOURCES"]

SOURCES = Registry(
    "source",
    {
        "coco": "extraction.sources.coco:Coco",
        "digits": "extraction.sources.digits:Digits",
        "digits_t2i": "extraction.sources.digits_t2i:DigitsT2i",
        "digits_vqa": "extraction.sources.digits_vqa:DigitsVqa",
    },
)
