import numpy as np
import pytest

from lamofcbench.errors import UnknownNameError
from lamofcbench.scores.classes import IMAGENET_A, IMAGENET_R, TINY, restricted_classes
from lamofcbench.scores.depth import align, depth_errors, eigen_crop, mean_errors
from lamofcbench.scores.miou import areas, mean_iou
from lamofcbench.scores.top1 import answers, top1


def test_top1_counts_the_largest() -> None:
    logits = [[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.0, 0.2, 0.8], [0.5, 0.4, 0.1]]
    assert top1(logits, [1, 0, 2, 1]) == 0.75


def test_restricted_answers_keep_their_numbers() -> None:
    logits = [[0.9, 0.5, 0.6, 0.0]]
    assert answers(logits).tolist() == [0]
    assert answers(logits, [3, 1]).tolist() == [1]
    assert top1(logits, [2], [1, 2]) == 1.0


@pytest.mark.parametrize("classes", [[], [4], [-1]])
def test_classes_that_are_not_there_are_refused(classes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"0\.\.3"):
        answers([[0.0, 1.0, 2.0, 3.0]], classes)


def test_answers_and_labels_must_pair() -> None:
    with pytest.raises(ValueError, match="labels"):
        top1([[0.0, 1.0]], [1, 0])
    with pytest.raises(ValueError, match="labels"):
        top1(np.zeros((0, 2)), [])


def test_the_restrictions_are_those_of_the_data_sets() -> None:
    for classes in (IMAGENET_A, IMAGENET_R):
        assert len(set(classes)) == 200
        assert list(classes) == sorted(classes)
        assert 0 <= classes[0] <= classes[-1] < 1000
    assert restricted_classes("in1ka-vit", "full") == IMAGENET_A
    assert restricted_classes("in1kr-vit", "x-mine") == IMAGENET_R
    assert restricted_classes("in1kr-vit", "tiny") == TINY
    assert restricted_classes("in1k-vit", "full") is None
    with pytest.raises(UnknownNameError):
        restricted_classes("in1kb-vit", "full")


def test_areas_leave_out_unlabelled_pixels() -> None:
    counts = areas([0, 0, 1, 1, 2], [1, 2, 2, 0, 0], 3)
    assert counts.tolist() == [[1, 1, 0], [2, 1, 0], [1, 2, 0]]
    # Class 0: 1 of 2; class 1: 1 of 2; class 2 is nowhere.
    assert mean_iou(counts) == pytest.approx(0.5)


def test_areas_are_summed_over_the_set() -> None:
    first = areas([0] * 9 + [1], [1] * 9 + [1], 2)
    second = areas([1], [2], 2)
    # Class 0: 9 of 10; class 1: 1 of 2. A mean over images would differ.
    assert mean_iou([first, second]) == pytest.approx((0.9 + 0.5) / 2)


def test_a_perfect_map_scores_one() -> None:
    mask = np.random.default_rng(0).integers(1, 6, (20, 30))
    assert mean_iou(areas(mask - 1, mask, 5)) == 1.0


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="for a mask"):
        areas([0, 1], [1], 2)
    with pytest.raises(ValueError, match="beyond"):
        areas([2], [1], 2)
    with pytest.raises(ValueError, match="beyond"):
        areas([0], [3], 2)
    with pytest.raises(ValueError, match="no pixel"):
        mean_iou(areas([0, 1], [0, 0], 2))


def test_depth_errors_by_hand() -> None:
    errors = depth_errors([[1.0, 4.0, 3.0]], [[2.0, 4.0, 0.0]], crop=False)
    assert errors.rmse == pytest.approx(np.sqrt(0.5))
    assert errors.abs_rel == pytest.approx(0.25)
    assert (errors.delta1, errors.delta2, errors.delta3) == (0.5, 0.5, 0.5)


def test_delta_bounds_are_exclusive() -> None:
    assert depth_errors([[1.25]], [[1.0]], crop=False).delta1 == 0.0
    assert depth_errors([[1.25]], [[1.0]], crop=False).delta2 == 1.0


def test_answers_are_brought_into_range() -> None:
    assert depth_errors([[50.0]], [[8.0]], crop=False).rmse == pytest.approx(2.0)
    assert depth_errors([[-1.0]], [[1.0]], crop=False).rmse == pytest.approx(0.999)


def test_alignment_undoes_scale_and_shift() -> None:
    truth = np.random.default_rng(0).uniform(1, 9, (48, 64))
    answer = truth * 0.3 + 2
    assert depth_errors(answer, truth).rmse > 1
    assert depth_errors(answer, truth, aligned=True).rmse == pytest.approx(0, abs=1e-9)


def test_alignment_is_least_squares() -> None:
    random = np.random.default_rng(1)
    answer, truth = random.normal(size=(2, 50))
    matrix = np.stack([answer, np.ones(50)], 1)
    best = matrix @ np.linalg.lstsq(matrix, truth, rcond=None)[0]
    assert np.allclose(align(answer, truth), best)


def test_a_flat_answer_is_aligned_to_the_mean() -> None:
    assert align(np.full(3, 7.0), np.array([1.0, 2.0, 3.0])).tolist() == [2.0] * 3


def test_the_crop_is_eigens() -> None:
    inside = eigen_crop((480, 640))
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (45, 471, 41, 601)
    assert eigen_crop((60, 80)).sum() == (59 - 6) * (75 - 5)


def test_pixels_outside_the_crop_do_not_count() -> None:
    truth = np.full((480, 640), 3.0)
    answer = np.where(eigen_crop((480, 640)), 3.0, 9.0)
    assert depth_errors(answer, truth).rmse == 0
    assert depth_errors(answer, truth, crop=False).rmse > 0


def test_maps_without_truth_are_refused() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        depth_errors(np.ones((48, 64)), np.zeros((48, 64)))
    with pytest.raises(ValueError, match="for a truth"):
        depth_errors(np.ones((48, 64)), np.ones((48, 63)))
    with pytest.raises(ValueError, match="no maps"):
        mean_errors([])


def test_means_count_every_map_once() -> None:
    first = depth_errors([[1.0]], [[2.0]], crop=False)
    second = depth_errors([[4.0, 4.0]], [[4.0, 4.0]], crop=False)
    assert mean_errors([first, second]).rmse == pytest.approx(0.5)
