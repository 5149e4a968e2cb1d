"""ImageNet-A: 200 of ImageNet-1k's classes, in a folder per class."""

from extraction.sources.imagenet_subset import ImageNetSubset
from lamofcbench.scores.classes import IMAGENET_A

__all__ = ["ImageNetA"]


class ImageNetA(ImageNetSubset):
    """Test and calibration samples from the one split that there is."""

    name = "imagenet_a"
    folder_name = "imagenet-a"
    numbers = IMAGENET_A
