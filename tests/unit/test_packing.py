import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamofcbench.errors import UnknownNameError
from lamofcbench.packing import PACKINGS, default_packing, load_packing


@pytest.mark.parametrize(
    ("axes", "shape", "plane"),
    [
        (("head", "token", "dim"), (8, 250, 128), (250, 1024)),
        (("token", "dim"), (250, 4096), (250, 4096)),
        (("crop", "token", "dim"), (3, 3141, 8), (9423, 8)),
        (("view", "token", "dim"), (2, 3077, 8), (6154, 8)),
        (("channel", "state"), (8192, 16), (8192, 16)),
        (("channel", "kernel"), (8192, 4), (8192, 4)),
        (("dim",), (768,), (1, 768)),
        (("channel", "height", "width"), (32, 128, 128), (512, 1024)),
        (("channel", "height", "width"), (16, 128, 128), (512, 512)),
    ],
)
def test_planes_are_the_benchmarks(axes, shape, plane) -> None:
    packing = default_packing(axes)
    assert packing.size(shape) == plane
    array = np.arange(np.prod(shape)).reshape(shape)
    packed = packing.pack(array)
    assert packed.shape == plane
    assert np.array_equal(packing.unpack(packed, shape), array)


def test_heads_stand_side_by_side_and_channels_as_tiles() -> None:
    cache = np.arange(24).reshape(2, 3, 4)
    assert load_packing("tokens").pack(cache)[1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    moments = np.arange(8)[:, None, None] * np.ones((1, 2, 2), int)
    assert load_packing("tiles").pack(moments)[::2, ::2].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_every_packing_gives_back_what_it_was_given(shape: list[int]) -> None:
    size = tuple(shape)
    array = np.random.default_rng(0).integers(0, 1 << 16, size).astype(np.uint16)
    for name in PACKINGS:
        packing = load_packing(name)
        try:
            plane = packing.size(size)
        except ValueError:
            continue  # not a layout of tensors of this rank
        if name == "vector" and len(size) > 1:
            continue
        packed = packing.pack(array)
        assert packed.shape == plane
        assert packed.dtype == array.dtype
        assert np.array_equal(packing.unpack(packed, size), array)


@pytest.mark.parametrize("shape", [(8192, 4), (8192, 16), (768,), (1280,)])
def test_a_square_wastes_less_than_the_usual_plane(shape: tuple[int, ...]) -> None:
    def padded(plane: tuple[int, int]) -> int:
        return int(np.prod([-(-side // 64) * 64 for side in plane]))

    usual = (1, shape[0]) if len(shape) == 1 else shape
    assert padded(load_packing("square").size(shape)) <= padded(usual) * 0.75
    assert padded(load_packing("square").size(shape)) <= np.prod(shape) * 1.05 + 4096


def test_a_plane_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="has \\(3, 8\\)"):
        load_packing("tokens").unpack(np.zeros((3, 9)), (2, 3, 4))
    with pytest.raises(UnknownNameError, match="Did you mean 'tiles'"):
        load_packing("tile")
