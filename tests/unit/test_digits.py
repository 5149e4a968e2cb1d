from pathlib import Path

import numpy as np
import pytest

from extraction.sources.base import SourceSample
from extraction.sources.digits import SPLIT_SIZES, Digits, load_images, partition
from lamofcbench.errors import SourceError
from lamofcbench.spec import load_scenario

PROFILE = load_scenario("in1k-vit").profile("tiny")
FIRST = [644, 503, 211, 996, 1225, 890, 1227, 259]


def every(source: Digits) -> dict[str, list[SourceSample]]:
    return {split: list(source.select(split, size)) for split, size in SPLIT_SIZES.items()}


def test_the_partition_covers_all_digits_once() -> None:
    training, held_out = partition()
    assert (len(training), len(held_out)) == (1409, 388)
    assert sorted([*training, *held_out]) == list(range(1797))


def test_the_partition_is_fixed() -> None:
    # The miniatures have trained on the other side of it.
    assert partition()[1][:8].tolist() == FIRST
    assert partition(1)[1][:8].tolist() != FIRST


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_are_disjoint_and_held_out(seed: int) -> None:
    source = PROFILE.source.model_copy(update={"seed": seed})
    splits = every(Digits(PROFILE.model_copy(update={"source": source})))
    records = [int(sample.source_id) for samples in splits.values() for sample in samples]
    assert len(set(records)) == len(records) == 388
    assert set(records) == set(partition()[1].tolist())


def test_the_declared_counts_are_there() -> None:
    counts = PROFILE.samples.model_dump()
    assert counts == SPLIT_SIZES


@pytest.mark.parametrize("split", SPLIT_SIZES)
def test_a_smaller_count_is_a_prefix(split: str) -> None:
    source = Digits(PROFILE)
    whole = [sample.id for sample in source.select(split, SPLIT_SIZES[split])]
    for count in (0, 1, 7, SPLIT_SIZES[split]):
        assert [sample.id for sample in source.select(split, count)] == whole[:count]


def test_the_test_split_is_balanced() -> None:
    labels = [sample.reference["label"] for sample in Digits(PROFILE).select("test", 100)]
    assert np.bincount(labels).tolist() == [10] * 10


def test_two_sources_agree() -> None:
    first, second = every(Digits(PROFILE)), every(Digits(PROFILE))
    for split in SPLIT_SIZES:
        assert [s.sha256 for s in first[split]] == [s.sha256 for s in second[split]]


def test_a_sample_is_the_record_it_names() -> None:
    sample = Digits(PROFILE).select("test", 1)[0]
    images, labels = load_images()
    index = int(sample.source_id)
    image = sample.inputs["image"]
    assert sample.id == f"digits-{index:04d}"
    assert (image.dtype, image.shape) == (np.uint8, (8, 8))
    assert np.array_equal(image, images[index])
    assert sample.reference == {"label": int(labels[index])}
    assert images.max() == 255
    assert len(sample.sha256) == 64


def test_a_caller_cannot_alter_the_data() -> None:
    source = Digits(PROFILE)
    source.select("test", 1)[0].inputs["image"][:] = 7
    assert source.select("test", 1)[0].inputs["image"].max() > 7


def test_too_many_samples_are_refused() -> None:
    with pytest.raises(SourceError, match="has 100 images, 101"):
        Digits(PROFILE).select("test", 101)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(SourceError, match="validation"):
        Digits(PROFILE).select("validation", 1)


def test_a_folder_is_refused() -> None:
    with pytest.raises(SourceError, match="come with scikit-learn"):
        Digits(PROFILE, Path("somewhere"))
