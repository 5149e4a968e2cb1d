import io

import numpy as np
import pytest
from PIL import Image

from lamofcbench.errors import SampleError
from lamofcbench.models.control import Edges, decode_image


def test_an_image_covers_the_square_and_is_cropped_to_its_centre() -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 200
    for turned in (image, image.transpose(1, 0, 2)):
        square = Edges(40, 50, 150).square(turned)
        assert square.shape == (40, 40, 3)
        assert (square[4:-4, 4:-4] == 200).all()


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert np.array_equal(Edges(16, 50, 150).square(image), image)


def test_edges_lie_on_a_step() -> None:
    image = np.zeros((32, 32), np.uint8)
    image[:, 16:] = 255
    edges = Edges(32, 50, 150)(image)
    assert edges.dtype == np.bool_
    assert set(np.flatnonzero(edges.any(0))) <= {15, 16}
    assert edges.any(1)[2:-2].all()
    assert not Edges(32, 50, 150)(np.full((8, 8), 90, np.uint8)).any()


def test_files_are_decoded() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 6), 7, np.uint8)).save(stream, "PNG")
    assert np.array_equal(decode_image(stream.getvalue()), np.full((4, 6, 3), 7))


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image: object) -> None:
    with pytest.raises(SampleError, match="image"):
        decode_image(image)
