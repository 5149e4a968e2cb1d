"""Reading an answer out of generated text: a choice's letter, or the last number."""

import re

__all__ = ["last_number", "letter"]


def letter(text: str) -> str | None:
    """The letter of a choice: the first capital that stands alone.

    Args:
        text: the continuation of "The best answer is".

    Returns:
        The letter, or None if there is none: an unparsed answer is wrong.
    """
    match = re.search(r"(?<![A-Za-z])([A-Z])(?![A-Za-z'])", text)
    return match[1] if match else None


def last_number(text: str) -> str | None:
    """The last number in a text, without separators of thousands or a trailing point.

    Returns:
        Its digits, with sign and decimals if it has them and they matter; None if there is none.
    """
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    if not found:
        return None
    number = str(found[-1]).replace(",", "")
    return number.rstrip("0").rstrip(".") if "." in number else number
