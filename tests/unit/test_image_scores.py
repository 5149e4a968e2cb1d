import math

import numpy as np
import pytest

from lamofcbench.scores.edge_f1 import edge_f1
from lamofcbench.scores.psnr import psnr


def test_psnr_of_known_errors() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black) == math.inf
    assert psnr(black, black + 255, peak=255) == pytest.approx(0)
    assert psnr(np.zeros(10), np.full(10, 0.1)) == pytest.approx(20)
    # Unsigned bytes must not wrap around.
    assert psnr(black, black + 1, peak=255) == psnr(black + 1, black, peak=255)


def test_psnr_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="psnr"):
        psnr(np.zeros((2, 2)), np.zeros(4))
    with pytest.raises(ValueError, match="psnr"):
        psnr([], [])


def line(column: int) -> np.ndarray:
    edges = np.zeros((10, 10), bool)
    edges[:, column] = True
    return edges


def test_edge_f1_forgives_a_pixel() -> None:
    assert edge_f1(line(4), line(4)) == 1
    assert edge_f1(line(4), line(5)) == 1
    assert edge_f1(line(4), line(6)) == 0
    assert edge_f1(line(4), line(6), tolerance=2) == 1
    assert edge_f1(line(4), line(5), tolerance=0) == 0
    assert edge_f1(line(0), line(9)) == 0


def test_edge_f1_of_a_part() -> None:
    both = line(1) | line(8)
    assert edge_f1(line(1), both) == edge_f1(both, line(1)) == pytest.approx(2 / 3)


def test_edge_f1_of_empty_maps() -> None:
    empty = np.zeros((10, 10), bool)
    assert edge_f1(empty, empty) == 1
    assert edge_f1(empty, line(4)) == edge_f1(line(4), empty) == 0


def test_edge_f1_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="edge_f1"):
        edge_f1(line(1), line(1)[1:])
    with pytest.raises(ValueError, match="edge_f1"):
        edge_f1(line(1)[0], line(1)[0])
