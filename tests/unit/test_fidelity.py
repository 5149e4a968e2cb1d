"""Figures of likeness, and the scores that need more than a mean."""

import math

import numpy as np
import pytest
import torch

from lamofcbench.errors import SampleError
from lamofcbench.metrics.bootstrap import resampled
from lamofcbench.scores import FIDELITIES, SCORES, load_fidelity, load_score
from lamofcbench.scores.base import Answer
from lamofcbench.scores.fidelity_tokens import divergence
from lamofcbench.scores.frechet import frechet_distance, kernel_distance
from lamofcbench.spec import list_configs, load_scenario


def answer(prediction: object = None, logits: object = None, forced: object = None) -> Answer:
    return Answer(prediction, logits, forced)


def test_divergence_is_in_nats_and_directed() -> None:
    first = torch.tensor([0.5, 0.5]).log()
    second = torch.tensor([0.25, 0.75]).log()
    assert float(divergence(first, second)) == pytest.approx(
        0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    )
    assert float(divergence(second, first)) == pytest.approx(
        0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    )
    logits = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert (divergence(logits, logits) == 0).all()


def test_first_and_later_tokens_stand_apart() -> None:
    forced = torch.eye(5) * 10
    other = forced.clone()
    other[3] = other[3].roll(1)
    found = load_fidelity("exact_match_letter").compare(
        answer("a", None, forced), answer("a", None, other)
    )
    assert found["agree_first"] == [1]
    assert found["kl_first"] == [0]
    assert found["agree_rest"] == [0.75]
    assert found["kl_rest"][0] > 1
    assert found["same_answer"] == [1]
    one = load_fidelity("vqa_accuracy").compare(
        answer("a", None, forced[:1]), answer("b", None, forced[:1])
    )
    assert set(one) == {"agree_first", "kl_first", "same_answer"}
    assert one["same_answer"] == [0]
    with pytest.raises(SampleError, match="length"):
        load_fidelity("vqa_accuracy").compare(
            answer("", None, forced), answer("", None, forced[:2])
        )


def test_transcripts_are_compared_with_the_uncoded_one() -> None:
    forced = torch.zeros(2, 3)
    found = load_fidelity("wer").compare(
        answer("the cat sat", None, forced), answer("the bat sat down", None, forced)
    )
    assert found["wer_uncoded"] == (2, 3)


def test_classes() -> None:
    found = load_fidelity("top1").compare(
        answer(0, torch.tensor([2.0, 1.0])), answer(1, torch.tensor([1.0, 2.0]))
    )
    assert found["agree"] == [0]
    assert found["kl"][0] == pytest.approx(math.tanh(0.5))


def test_segments_take_the_uncoded_map_as_truth() -> None:
    truth, other = np.array([[0, 0], [1, 1]]), np.array([[0, 1], [1, 1]])
    logits = np.zeros((3, 2, 2))
    fidelity = load_fidelity("miou")
    same = fidelity.compare(answer(truth, logits), answer(truth, logits))
    moved = fidelity.compare(answer(truth, logits), answer(other, logits))
    total = fidelity.figures[0].totals
    rows = np.stack([same["miou_uncoded"], moved["miou_uncoded"]])
    assert total(rows[:1], np.ones((1, 1))) == 1
    # Areas are summed over both: class 0 has 3 of 4, class 1 has 4 of 5.
    assert total(rows, np.ones((1, 2))) == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert moved["agree"] == [0.75]


def test_depth() -> None:
    truth = np.full((2, 2), 2.0)
    other = np.array([[2.0, 2.09], [1.9, 3.0]])
    found = load_fidelity("depth").compare(answer(truth), answer(other))
    # 1.9 is not within 5 %: the larger is more than 1.05 times the smaller.
    assert found["within_5"] == [0.5]
    assert found["rmse_uncoded"][0] == pytest.approx(math.sqrt((0.0081 + 0.01 + 1) / 4))


def test_images() -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (32, 32, 3), np.uint8)
    fidelity = load_fidelity("fid")
    same = fidelity.compare(answer(image), answer(image.copy()))
    assert (same["ssim"], same["psnr"], same["edge_f1"]) == ([1.0], [100.0], [1.0])
    noisy = np.clip(image.astype(int) + random.integers(-40, 41, image.shape), 0, 255)
    moved = fidelity.compare(answer(image), answer(noisy.astype(np.uint8)))
    assert 0.3 < moved["ssim"][0] < 0.99
    assert 15 < moved["psnr"][0] < 25


def test_distances_of_sets() -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=(300, 4))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert kernel_distance(first, first) == 0
    assert frechet_distance(first, first + 3) == pytest.approx(36)
    # Of axis-parallel normals: the squared difference of the deviations.
    assert frechet_distance(first, first * 2) == pytest.approx(
        first.var(0, ddof=1).sum() + (first.mean(0) ** 2).sum()
    )
    assert kernel_distance(first, first + 3) > 1
    wide = random.normal(size=(10, 50))
    assert frechet_distance(wide, wide) == pytest.approx(0, abs=1e-9)


def test_a_frechet_score_is_of_pairs() -> None:
    score = load_score("fid", "canny-t2i", "tiny")
    pairs = np.random.default_rng(0).normal(size=(30, 2, 3))
    rows = np.stack([score.measure(answer(None, pair), {}, {})["fid"] for pair in pairs])
    value = score.figures[0].totals(rows, np.ones((1, 30)))[0]
    assert value == pytest.approx(frechet_distance(pairs[:, 0], pairs[:, 1]))
    assert (score.figures[0].totals(rows, resampled(30, resamples=5)) > 0).all()
    with pytest.raises(SampleError, match="features"):
        score.measure(answer(None, None), {}, {})


@pytest.mark.parametrize("config", list_configs())
def test_every_metric_has_a_score_and_a_fidelity(config: str) -> None:
    metric = load_scenario(config).metric
    score, fidelity = load_score(metric, config, "tiny"), load_fidelity(metric)
    names = [figure.name for figure in (*score.figures, *fidelity.figures)]
    assert len(set(names)) == len(names)
    assert fidelity.figures[0].higher_is_better
    assert set(SCORES) >= {metric}
    assert list(FIDELITIES)


def test_chance_is_the_best_blind_answer() -> None:
    letters = [({"answer": letter}, {}) for letter in "ABBC"]
    assert load_score("exact_match_letter", "arc-llm", "tiny").chance(letters) == 0.5
    labels = [({"label": label}, {}) for label in (1, 2, 2, 2)]
    assert load_score("top1", "in1k-vit", "tiny").chance(labels) == 0.75
    spoken = [({"answer": text}, {}) for text in ("red", "the red", "blue")]
    assert load_score("containment", "sdqa-alm", "tiny").chance(spoken) == pytest.approx(2 / 3)
    voted = [({"answers": ["two"] * 10}, {}), ({"answers": ["two"] + ["three"] * 9}, {})]
    assert load_score("vqa_accuracy", "vqa-mllm", "tiny").chance(voted) == pytest.approx(2 / 3)
    masks = [({"mask": np.array([1, 1, 1, 2])}, {})]
    assert load_score("miou", "ade20k-vit", "tiny").chance(masks) == pytest.approx(0.75 / 2)
    size = {"map_size": np.array([4, 4])}
    depths = [({"depth": np.full(16, metres)}, size) for metres in (1.0, 3.0)]
    assert load_score("depth", "nyuv2-vit", "tiny").chance(depths) == pytest.approx(1)
    assert math.isnan(load_score("fid", "canny-t2i", "tiny").chance([]))


def test_a_missing_reference_is_named() -> None:
    for metric, config in (("top1", "in1k-vit"), ("wer", "librispeech-clean-alm")):
        with pytest.raises(SampleError, match="no reference"):
            load_score(metric, config, "tiny").measure(answer("x", [1.0, 2.0]), {}, {})
