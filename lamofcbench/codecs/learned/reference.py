"""The whole chain of the benchmark's published code, as one codec.

Values become places in a codebook of 256 centroids, the largest not above each (see `Codebook`),
these become planes, padded with zeros half before and half after, and the scale hyperprior codes
them. Its own fit is ``family``: one set of codebooks for all configs of a family.
"""

from lamofcbench.codecs.learned.hyperprior import Hyperprior

__all__ = ["Reference"]


class Reference(Hyperprior):
    """`Hyperprior` with ``scaling=floor``, fitted to whole samples.

    ``elic:scaling=floor`` is the other chain, fitted without what every decoder holds.
    """

    name = "reference"
    scaling = "floor"
    fits_whole = True
