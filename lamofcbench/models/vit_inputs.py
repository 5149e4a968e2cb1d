"""From an image to what a vision transformer takes, for each kind of task.

Every kind gives a batch of pixels, [batch, 3, height, width] normalised by ImageNet's statistics,
and the context that the back half needs to put the answers back together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch.nn import functional as F

from lamofcbench.errors import DeclarationError, SampleError
from lamofcbench.spec import ProfileSpec

__all__ = ["FlippedPair", "Preprocess", "SlidingCrops"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Size = tuple[int, int]


def _entries(profile: ProfileSpec, *names: str) -> tuple[list[int], str]:
    """Read the declared whole numbers of these names, and the interpolation."""
    entries = dict(profile.preprocess)
    if sorted(entries) != sorted([*names, "interpolation"]):
        raise DeclarationError(
            f"preprocess: has {sorted(entries)}; needs {', '.join(names)} and interpolation"
        )
    numbers = [entries[name] for name in names]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers):
        raise DeclarationError(f"preprocess: {', '.join(names)} must be whole numbers above 0")
    kind = entries["interpolation"]
    if kind not in ("bilinear", "bicubic"):
        raise DeclarationError(f"preprocess: interpolation {kind!r}: not bilinear or bicubic")
    return [int(n) for n in numbers], str(kind)


def _pixels(image: Any) -> torch.Tensor:
    """Turn an image into float32 [1, 3, height, width] of 0..1."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise SampleError(
            f"image: {array.dtype} {list(array.shape)}; "
            "needs uint8 [height, width, 3] or [height, width]"
        )
    # A copy, because torch takes no arrays of negative strides and warns of read-only ones.
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255


def _resized(pixels: torch.Tensor, short_side: int, kind: str) -> torch.Tensor:
    height, width = pixels.shape[2:]
    short = min(height, width)
    size = [short_side * height // short, short_side * width // short]
    return F.interpolate(pixels, size, mode=kind, align_corners=False, antialias=True)


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    # Bicubic overshoots at edges, and no image has such values.
    return (pixels.clamp(0, 1) - mean) / std


def _size(context: Mapping[str, torch.Tensor], name: str) -> Size:
    height, width = (int(side) for side in context[name])
    if height < 1 or width < 1:
        raise SampleError(f"context {name}: [{height}, {width}]")
    return height, width


@dataclass(frozen=True)
class Preprocess:
    """One centre crop, for classification.

    Attributes:
        resize: pixels of the short side after resizing.
        crop: pixels of both sides of the centre crop.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
    """

    resize: int
    crop: int
    interpolation: str
    context = ("image_size",)

    @classmethod
    def declared(cls, profile: ProfileSpec) -> Self:
        """Read the preprocessing that a profile declares.

        Raises:
            DeclarationError: an entry is missing, unknown or out of range.
        """
        (resize, crop), kind = _entries(profile, "resize", "crop")
        if crop > resize:
            raise DeclarationError("preprocess: crop is larger than resize")
        return cls(resize, crop, kind)

    def __call__(self, image: Any) -> torch.Tensor:
        """Resize, crop and normalise one image.

        Args:
            image: uint8 array [height, width, 3], or [height, width] if it is grey.

        Returns:
            float32 [1, 3, crop, crop].

        Raises:
            SampleError: it is no such array.
        """
        pixels = _resized(_pixels(image), self.resize, self.interpolation)
        height, width = pixels.shape[2:]
        top, left = (height - self.crop) // 2, (width - self.crop) // 2
        return _normalised(pixels[:, :, top : top + self.crop, left : left + self.crop])

    def prepare(self, image: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return pixels and context: ``image_size``, int64 [2], of the backbone's input."""
        pixels = self(image)
        return pixels, {"image_size": torch.tensor(pixels.shape[2:], dtype=torch.int64)}

    def batch(self, context: Mapping[str, torch.Tensor]) -> tuple[tuple[int, ...], Size]:
        """Return the axes before the tokens, and the size of the backbone's input."""
        return (), _size(context, "image_size")


@dataclass(frozen=True)
class SlidingCrops:
    """Square crops that cover the whole image, for segmentation; however many it takes.

    Attributes:
        short_side: pixels of the short side after resizing.
        crop: pixels of both sides of a crop.
        stride: pixels from one crop to the next; the last one ends where the image ends.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
    """

    short_side: int
    crop: int
    stride: int
    interpolation: str
    context = ("image_size", "map_size")

    @classmethod
    def declared(cls, profile: ProfileSpec) -> Self:
        """Read the preprocessing that a profile declares.

        Raises:
            DeclarationError: an entry is missing, unknown or out of range.
        """
        (short_side, crop, stride), kind = _entries(profile, "short_side", "crop", "stride")
        if not stride <= crop <= short_side:
            raise DeclarationError("preprocess: needs stride <= crop <= short_side")
        return cls(short_side, crop, stride, kind)

    def offsets(self, size: Size) -> list[tuple[int, int]]:
        """Top and left of every crop of an image of this size, by rows."""
        starts = []
        for length in size:
            count = -(-max(length - self.crop, 0) // self.stride) + 1
            starts.append([min(i * self.stride, length - self.crop) for i in range(count)])
        return [(top, left) for top in starts[0] for left in starts[1]]

    def prepare(self, image: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Resize, normalise and cut one image.

        Args:
            image: uint8 array [height, width, 3], or [height, width] if it is grey.

        Returns:
            float32 [crops, 3, crop, crop]; and the context: ``image_size`` after resizing and
            ``map_size`` before it, int64 [2] each.

        Raises:
            SampleError: it is no such array.
        """
        original = _pixels(image)
        pixels = _normalised(_resized(original, self.short_side, self.interpolation))
        size = (pixels.shape[2], pixels.shape[3])
        crops = [
            pixels[:, :, top : top + self.crop, left : left + self.crop]
            for top, left in self.offsets(size)
        ]
        return torch.cat(crops), {
            "image_size": torch.tensor(size, dtype=torch.int64),
            "map_size": torch.tensor(original.shape[2:], dtype=torch.int64),
        }

    def batch(self, context: Mapping[str, torch.Tensor]) -> tuple[tuple[int, ...], Size]:
        """Return the axes before the tokens, and the size of the backbone's input."""
        size = _size(context, "image_size")
        if min(size) < self.crop:
            raise SampleError(f"context image_size: {list(size)} is below a crop of {self.crop}")
        return (len(self.offsets(size)),), (self.crop, self.crop)

    def merged(self, scores: torch.Tensor, context: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Average the crops' scores where they overlap, and bring them to the map's size.

        Args:
            scores: [crops, classes, any height, any width].
            context: as `prepare` returned it.

        Returns:
            [classes, height, width] of ``map_size``.
        """
        size = _size(context, "image_size")
        total = scores.new_zeros((1, scores.shape[1], *size))
        count = scores.new_zeros(size)
        for (top, left), crop in zip(self.offsets(size), scores, strict=True):
            # One crop at a time: at full size all of them, enlarged, are gigabytes.
            part = F.interpolate(crop[None], (self.crop, self.crop), mode="bilinear")
            window = slice(top, top + self.crop), slice(left, left + self.crop)
            total[:, :, window[0], window[1]] += part
            count[window] += 1
        return F.interpolate(total / count, _size(context, "map_size"), mode="bilinear")[0]


@dataclass(frozen=True)
class FlippedPair:
    """An image and its mirror image, for depth.

    Attributes:
        short_side: pixels of the short side after resizing.
        interpolation: ``bilinear`` or ``bicubic``, antialiased.
    """

    short_side: int
    interpolation: str
    context = ("image_size", "map_size")

    @classmethod
    def declared(cls, profile: ProfileSpec) -> Self:
        """Read the preprocessing that a profile declares.

        Raises:
            DeclarationError: an entry is missing, unknown or out of range.
        """
        (short_side,), kind = _entries(profile, "short_side")
        return cls(short_side, kind)

    def prepare(self, image: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Resize, normalise and mirror one image.

        Args:
            image: uint8 array [height, width, 3], or [height, width] if it is grey.

        Returns:
            float32 [2, 3, height, width]; and the context: ``image_size`` after resizing and
            ``map_size`` before it, int64 [2] each.

        Raises:
            SampleError: it is no such array.
        """
        original = _pixels(image)
        pixels = _normalised(_resized(original, self.short_side, self.interpolation))
        return torch.cat([pixels, pixels.flip(3)]), {
            "image_size": torch.tensor(pixels.shape[2:], dtype=torch.int64),
            "map_size": torch.tensor(original.shape[2:], dtype=torch.int64),
        }

    def batch(self, context: Mapping[str, torch.Tensor]) -> tuple[tuple[int, ...], Size]:
        """Return the axes before the tokens, and the size of the backbone's input."""
        return (2,), _size(context, "image_size")

    def merged(self, depth: torch.Tensor, context: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Average the two views' maps, mirrored back, at the map's size.

        Args:
            depth: [2, 1, any height, any width].
            context: as `prepare` returned it.

        Returns:
            [height, width] of ``map_size``.
        """
        both = torch.stack([depth[0], depth[1].flip(2)]).mean(0, keepdim=True)
        return F.interpolate(both, _size(context, "map_size"), mode="bilinear")[0, 0]
