"""What the axes of a feature are for, by their names.

All other axes than these are rows: tokens, pixels, states.
"""

__all__ = ["APART", "CHANNEL_AXES"]

CHANNEL_AXES = ("head", "dim", "channel")
"""Axes whose entries are channels, each with a scale of its own."""
APART = ("crop", "view")
"""Axes that hold planes of their own, each with its tokens and channels."""
