"""Images composed of held-out digits."""

from typing import Any

import numpy as np
import pytest

from extraction.sources import SOURCES
from extraction.sources.base import Source
from extraction.sources.digit_rooms import SIZE
from extraction.sources.digits import load_images, partition
from lamofcbench.errors import SourceError
from lamofcbench.models.vit_inputs import SlidingCrops
from lamofcbench.scores.classes import TINY
from lamofcbench.spec import SPLITS, ProfileSpec, load_scenario

CONFIGS = ["in1ka-vit", "in1kr-vit", "ade20k-vit", "nyuv2-vit"]


def tiny(config: str) -> ProfileSpec:
    return load_scenario(config).profile("tiny")


def source(config: str) -> Source:
    made = SOURCES.load(tiny(config).source.name)(tiny(config))
    assert isinstance(made, Source)
    return made


def described(samples: Any) -> list[tuple[str, str]]:
    return [(sample.id, sample.sha256) for sample in samples]


@pytest.mark.parametrize("config", CONFIGS)
def test_splits_use_digits_of_their_own_that_no_miniature_trained_on(config: str) -> None:
    counts = tiny(config).samples.model_dump()
    used = {
        split: {
            int(n) for s in source(config).select(split, counts[split]) for n in s.source_id.split()
        }
        for split in SPLITS
    }
    assert not set.union(*used.values()) & set(partition()[0].tolist())
    assert sum(map(len, used.values())) == len(set.union(*used.values()))


@pytest.mark.parametrize("config", CONFIGS)
def test_samples_are_fixed_and_a_smaller_count_is_a_prefix(config: str) -> None:
    whole = described(source(config).select("test", 20))
    assert len(set(whole)) == 20
    assert described(source(config).select("test", 20)) == whole
    assert described(source(config).select("test", 7)) == whole[:7]


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_not_there_is_refused(config: str, tmp_path: Any) -> None:
    with pytest.raises(SourceError, match="no split"):
        source(config).select("validation", 1)
    with pytest.raises(SourceError, match="leave out the folder"):
        SOURCES.load(tiny(config).source.name)(tiny(config), tmp_path)


def test_scenes_label_every_pixel_and_vary_in_crops() -> None:
    profile = tiny("ade20k-vit")
    crops = SlidingCrops.declared(profile)
    counts, pixels, classes = set(), [], set()
    for sample in source("ade20k-vit").select("test", 100):
        image, mask = sample.inputs["image"], sample.reference["mask"]
        assert image.dtype == mask.dtype == np.uint8
        assert mask.shape == (image.shape[0] * image.shape[1],)
        classes |= set(np.unique(mask).tolist())
        counts.add(len(crops.prepare(image)[0]))
        pixels.append(mask.size)
    assert classes == set(range(1, 12))
    assert counts >= {1, 2, 3, 4}
    assert max(counts) <= profile.ragged["crop"].max
    assert max(pixels) <= profile.ragged["pixel"].max


def test_scenes_hold_the_digits_that_they_name() -> None:
    labels = load_images()[1]
    for sample in source("ade20k-vit").select("test", 20):
        named = {2 + int(labels[int(n)]) for n in sample.source_id.split()}
        assert set(np.unique(sample.reference["mask"]).tolist()) - {1} == named


def test_rooms_have_depth_everywhere() -> None:
    for sample in source("nyuv2-vit").select("test", 20):
        depth = sample.reference["depth"]
        assert depth.dtype == np.float32
        assert sample.inputs["image"].shape == (*SIZE, 3)
        assert depth.shape == (SIZE[0] * SIZE[1],)
        assert 0.5 < depth.min() < depth.max() < 10


@pytest.mark.parametrize("config", ["in1ka-vit", "in1kr-vit"])
def test_variants_have_six_classes(config: str) -> None:
    labels = [sample.reference["label"] for sample in source(config).select("test", 100)]
    assert set(labels) == set(TINY)
    with pytest.raises(SourceError, match="were asked for"):
        source(config).select("calibration", 1000)


def test_variants_need_a_kind() -> None:
    profile = tiny("in1ka-vit")
    changed = profile.source.model_copy(update={"id": "scikit-learn:load_digits"})
    with pytest.raises(SourceError, match="#hard or #renditions"):
        SOURCES.load("digit_variants")(profile.model_copy(update={"source": changed}))
