"""States as they are: [channels, n] is a plane already, narrow as it may be."""

from collections.abc import Sequence

from lamofcbench.packing.channels import Channels

__all__ = ["States"]


class States(Channels):
    """[channel, state] or [channel, kernel] as it stands: 8192 x 16, 8192 x 4."""

    name = "states"

    def takes(self, axes: Sequence[str]) -> bool:
        """See `Packing.takes`."""
        return len(axes) == 2 and axes[0] == "channel"
