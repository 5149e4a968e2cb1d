from pathlib import Path

import numpy as np
import pytest

from extraction.sources.base import SourceSample
from extraction.sources.digits import SPLIT_SIZES, Digits, partition
from extraction.sources.digits_t2i import INKS, SIZE, TEMPLATES, WORDS, DigitsT2i, caption, picture
from lamofcbench.errors import SourceError
from lamofcbench.models.control import Edges
from lamofcbench.spec import load_scenario

PROFILE = load_scenario("canny-t2i").profile("tiny")


def every() -> dict[str, list[SourceSample]]:
    source = DigitsT2i(PROFILE)
    return {split: list(source.select(split, size)) for split, size in SPLIT_SIZES.items()}


def test_splits_are_disjoint_and_held_out() -> None:
    records = [int(s.source_id) for samples in every().values() for s in samples]
    assert len(set(records)) == len(records)
    assert set(records) == set(partition()[1].tolist())
    assert PROFILE.samples.model_dump() == SPLIT_SIZES


@pytest.mark.parametrize("split", SPLIT_SIZES)
def test_a_smaller_count_is_a_prefix(split: str) -> None:
    source = DigitsT2i(PROFILE)
    whole = [(s.id, s.sha256) for s in source.select(split, SPLIT_SIZES[split])]
    assert [(s.id, s.sha256) for s in source.select(split, 7)] == whole[:7]


def test_a_sample_is_its_digit_in_the_words_and_ink_of_its_caption() -> None:
    digits = Digits(PROFILE).select("test", 100)
    samples = DigitsT2i(PROFILE).select("test", 100)
    for digit, sample in zip(digits, samples, strict=True):
        prompt, image = sample.inputs["prompt"], sample.inputs["image"]
        words = prompt.replace(",", "").split()
        (ink,) = set(INKS) & set(words)
        assert set(WORDS) & set(words) == {WORDS[digit.reference["label"]]}
        assert (image.dtype, image.shape) == (np.uint8, (SIZE, SIZE, 3))
        assert np.array_equal(image, picture(digit.inputs["image"], ink))
        assert sample.reference == {"caption": prompt}
        assert (sample.id, sample.source_id) == (digit.id, digit.source_id)
        assert Edges(SIZE, 50, 150)(image).any()


def test_wording_and_ink_vary() -> None:
    captions = {s.inputs["prompt"] for s in DigitsT2i(PROFILE).select("test", 100)}
    assert len(captions) > 60
    assert all(any(ink in c for c in captions) for ink in INKS)
    made = {caption(3, "red", i) for i in range(len(TEMPLATES))}
    assert len(made) == len(TEMPLATES)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(SourceError, match="come with scikit-learn"):
        DigitsT2i(PROFILE, Path("somewhere"))
    with pytest.raises(SourceError, match="has 100 images, 101"):
        DigitsT2i(PROFILE).select("test", 101)
