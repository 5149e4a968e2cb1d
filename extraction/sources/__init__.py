"""Data sources, one data set a file."""

from lamofcbench.registry import Registry

__all__ = ["SOURCES"]

SOURCES = Registry(
    "source",
    {
        "arc": "extraction.sources.arc:Arc",
        "gsm8k": "extraction.sources.gsm8k:Gsm8k",
        "hellaswag": "extraction.sources.hellaswag:Hellaswag",
        "truthfulqa": "extraction.sources.truthfulqa:Truthfulqa",
        "winogrande": "extraction.sources.winogrande:Winogrande",
        "digits": "extraction.sources.digits:Digits",
        "digits_vqa": "extraction.sources.digits_vqa:DigitsVqa",
    },
)
