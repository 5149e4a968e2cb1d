"""ImageNet-R: 200 of ImageNet-1k's classes, in a folder per class."""

from extraction.sources.imagenet_subset import ImageNetSubset
from lamofcbench.scores.classes import IMAGENET_R

__all__ = ["ImageNetR"]


class ImageNetR(ImageNetSubset):
    """Test and calibration samples from the one split that there is."""

    name = "imagenet_r"
    folder_name = "imagenet-r"
    numbers = IMAGENET_R
