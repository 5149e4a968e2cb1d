"""Control images of the ``t2i`` family: a photograph's edges, which a ControlNet follows."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamofcbench.errors import SampleError
from lamofcbench.optional import require

__all__ = ["Edges", "decode_image"]


def decode_image(image: Any) -> NDArray[np.uint8]:
    """Turn what a source gives into pixels.

    Args:
        image: uint8 array [height, width, 3] or, if it is grey, [height, width]; or the bytes of
            an image file. Bytes are decoded here rather than in the source, so that a file that
            is no image costs one sample and not the run.

    Returns:
        uint8 [height, width, 3].

    Raises:
        SampleError: it is none of these.
    """
    if isinstance(image, bytes):
        pil = require("PIL.Image", "models")
        try:
            with pil.open(io.BytesIO(image)) as file:
                return np.asarray(file.convert("RGB"))
        # Its readers also raise SyntaxError and struct.error on files that are cut or altered.
        except Exception as error:
            raise SampleError(f"image: cannot be decoded: {error}") from error
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise SampleError(
            f"image: {array.dtype} {list(array.shape)}; "
            "needs uint8 [height, width, 3] or [height, width], or the bytes of an image file"
        )
    return array


@dataclass(frozen=True)
class Edges:
    """Canny edges of an image that is resized to cover a square and cropped to its centre.

    Attributes:
        size: pixels of the square's side.
        low: hysteresis threshold of the gradient below which no pixel is an edge.
        high: the threshold above which a pixel always is one.
    """

    size: int
    low: int
    high: int

    def square(self, image: Any) -> NDArray[np.uint8]:
        """Resize and crop one image.

        Args:
            image: as for `decode_image`.

        Returns:
            uint8 [size, size, 3].

        Raises:
            SampleError: it is no image.
        """
        pixels = decode_image(image)
        height, width = pixels.shape[:2]
        pil = require("PIL.Image", "models")
        short = min(height, width)
        wide, tall = (max(self.size, round(self.size * side / short)) for side in (width, height))
        if (height, width) != (tall, wide):
            resized = pil.fromarray(pixels).resize((wide, tall), pil.Resampling.BICUBIC)
            pixels = np.asarray(resized)
        top, left = (tall - self.size) // 2, (wide - self.size) // 2
        return np.ascontiguousarray(pixels[top : top + self.size, left : left + self.size])

    def __call__(self, image: Any) -> NDArray[np.bool_]:
        """Find the edges of one image.

        Args:
            image: as for `decode_image`.

        Returns:
            bool [size, size], true on edges one pixel wide.

        Raises:
            SampleError: it is no image.
            MissingDependencyError: OpenCV or Pillow is not installed.
        """
        square = self.square(image)
        cv2 = require("cv2", "models")
        grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
        edges: NDArray[np.bool_] = cv2.Canny(grey, self.low, self.high) > 0
        return edges
