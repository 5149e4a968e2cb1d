"""Every vit config and mode, in the miniatures; and what the maps add to the contract."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from extraction.sources import SOURCES
from lamofcbench.errors import (
    DeclarationError,
    ModelError,
    SampleError,
    UnknownNameError,
)
from lamofcbench.models import bundled_path, load_family
from lamofcbench.models.quiet import quiet
from lamofcbench.models.vit import TASKS, Vit
from lamofcbench.models.vit_inputs import FlippedPair, SlidingCrops
from lamofcbench.spec import ProfileSpec, list_configs, load_scenario

CONFIGS = [name for name in list_configs() if load_scenario(name).family == "vit"]
MAPS = ["ade20k-vit", "nyuv2-vit"]
CASES = [(c, m) for c in CONFIGS for m in load_scenario(c).profile("tiny").modes]
MAP_CASES = [(c, m) for c, m in CASES if c in MAPS]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(config: str) -> ProfileSpec:
    return load_scenario(config).profile("tiny")


@pytest.fixture(scope="module")
def models() -> dict[str, Vit]:
    return {config: load_family("vit", tiny(config)) for config in CONFIGS}


@pytest.fixture(scope="module")
def inputs() -> dict[str, list[Any]]:
    return {
        c: [s.inputs for s in SOURCES.load(tiny(c).source.name)(tiny(c)).select("test", 6)]
        for c in CONFIGS
    }


def equal(first: Any, second: Any) -> bool:
    same = torch.equal(torch.as_tensor(first.prediction), torch.as_tensor(second.prediction))
    return same and torch.equal(first.logits, second.logits)


def test_the_five_configs_are_there() -> None:
    assert CONFIGS == ["ade20k-vit", "in1k-vit", "in1ka-vit", "in1kr-vit", "nyuv2-vit"]
    assert {len(load_scenario(c).profiles) for c in CONFIGS} == {2}


@pytest.mark.parametrize(("config", "mode"), CASES)
def test_capture_then_inject_equals_the_plain_model(
    models: dict[str, Vit], inputs: dict[str, list[Any]], config: str, mode: str
) -> None:
    for sample in inputs[config]:
        capture = models[config].front(sample)
        alone = {key: capture.features[key] for key in tiny(config).modes[mode].keys}
        back = models[config].back(alone, capture.context, mode)
        assert equal(back, models[config].plain(sample, mode))


@pytest.mark.parametrize("config", MAPS)
def test_modes_that_replace_from_the_first_level_answer_as_all_levels(
    models: dict[str, Vit], inputs: dict[str, list[Any]], config: str
) -> None:
    sample = inputs[config][0]
    whole = models[config].plain(sample)
    for mode in ("multi", "single:0"):
        assert equal(models[config].plain(sample, mode), whole)
    assert not equal(models[config].plain(sample, "single:2"), whole)


@pytest.mark.parametrize(("config", "mode"), MAP_CASES)
def test_only_the_blocks_after_a_level_run(
    models: dict[str, Vit], inputs: dict[str, list[Any]], config: str, mode: str
) -> None:
    model = models[config]
    capture = model.front(inputs[config][0])
    ran: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, block in enumerate(model._backbone.model.layer)
    ]
    model.back(capture.features, capture.context, mode)
    for hook in hooks:
        hook.remove()
    assert ran == ([] if mode == "multi" else list(range(int(mode[-1]) + 1, 4)))


@pytest.mark.parametrize(("config", "mode"), MAP_CASES)
def test_every_key_of_a_mode_matters(
    models: dict[str, Vit], inputs: dict[str, list[Any]], config: str, mode: str
) -> None:
    model, sample = models[config], inputs[config][0]
    capture, plain = model.front(sample), model.plain(sample, mode)
    for key in tiny(config).modes[mode].keys:
        changed = {**capture.features, key: torch.zeros_like(capture.features[key])}
        assert not torch.equal(model.back(changed, capture.context, mode).logits, plain.logits)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_key_outside_the_mode_is_refused(
    models: dict[str, Vit], inputs: dict[str, list[Any]], config: str
) -> None:
    class Nosy(Vit):
        def _back(self, features: Any, context: Any, mode: str) -> Any:
            return features["layer.0"]

    capture = models[config].front(inputs[config][0])
    mode = list(tiny(config).modes)[-1]
    with pytest.raises(UnknownNameError, match=r"layer\.0"):
        Nosy.load(tiny(config)).back(capture.features, capture.context, mode)


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_captured_is_what_is_declared(
    models: dict[str, Vit], inputs: dict[str, list[Any]], config: str
) -> None:
    profile = tiny(config)
    for sample in inputs[config]:
        capture = models[config].front(sample)
        for declared, found in (
            (profile.keys, capture.features),
            (profile.context, capture.context),
        ):
            assert set(found) == {spec.name for spec in declared}
            for spec in declared:
                assert found[spec.name].dtype == getattr(torch, spec.captured)
                shape = tuple(found[spec.name].shape)
                for size, expected in zip(shape, spec.shape, strict=True):
                    if isinstance(expected, str):
                        assert 1 <= size <= profile.ragged["crop"].max
                    else:
                        assert size == expected


@pytest.mark.parametrize("config", CONFIGS)
def test_the_front_half_alone_captures_the_same(
    models: dict[str, Vit], inputs: dict[str, list[Any]], config: str
) -> None:
    front = Vit.load(tiny(config), half="front")
    assert front.revision == models[config].revision == Vit.revision_of(tiny(config))
    assert front.parameters_loaded < front.parameters_total == models[config].parameters_loaded
    whole = models[config].front(inputs[config][0])
    mine = front.front(inputs[config][0])
    for key, feature in whole.features.items():
        assert torch.equal(mine.features[key], feature)
    for run in (lambda: front.plain(inputs[config][0]), lambda: front.back({}, mine.context)):
        with pytest.raises(ModelError, match="only its front half"):
            run()


@pytest.mark.parametrize("config", MAPS)
def test_features_equal_those_of_hooks(
    models: dict[str, Vit], inputs: dict[str, list[Any]], config: str
) -> None:
    model = models[config]
    seen: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _m, _a, out: seen.append(out.clone()))
        for block in model._backbone.model.layer
    ]
    pixels, _ = model._inputs.prepare(inputs[config][0]["image"])
    with torch.no_grad():
        model._backbone(pixels)
    for hook in hooks:
        hook.remove()
    capture = model.front(inputs[config][0])
    for i in range(4):
        assert torch.equal(capture.features[f"layer.{i}"], seen[i])


def test_answers_have_the_size_of_the_map(
    models: dict[str, Vit], inputs: dict[str, list[Any]]
) -> None:
    for config in MAPS:
        for sample in inputs[config]:
            answer = models[config].plain(sample)
            assert tuple(answer.prediction.shape) == sample["image"].shape[:2]
    assert models["ade20k-vit"].plain(inputs["ade20k-vit"][0]).prediction.dtype == torch.uint8
    depth = models["nyuv2-vit"].plain(inputs["nyuv2-vit"][0]).prediction
    assert 0.001 <= depth.min() <= depth.max() <= 10


def test_a_mirrored_image_gives_a_mirrored_depth_map(
    models: dict[str, Vit], inputs: dict[str, list[Any]]
) -> None:
    image = inputs["nyuv2-vit"][0]["image"]
    model = models["nyuv2-vit"]
    mirrored = model.plain({"image": image[:, ::-1]}).prediction
    assert torch.allclose(mirrored.flip(1), model.plain({"image": image}).prediction, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "crops"),
    [((64, 64), 1), ((64, 65), 2), ((64, 106), 2), ((64, 107), 3), ((64, 232), 5), ((232, 64), 5)],
)
def test_crops_cover_the_image_and_none_is_dropped(size: tuple[int, int], crops: int) -> None:
    sliding = SlidingCrops(64, 64, 42, "bilinear")
    offsets = sliding.offsets(size)
    assert len(offsets) == crops
    covered = np.zeros(size, np.int64)
    for top, left in offsets:
        covered[top : top + 64, left : left + 64] += 1
    assert covered.min() >= 1
    assert covered.sum() == crops * 64 * 64


def test_full_size_crops_are_those_of_the_paper() -> None:
    sliding = SlidingCrops.declared(load_scenario("ade20k-vit").profile("full"))
    counts = [len(sliding.offsets((896, width))) for width in (896, 1195, 1493, 1800, 2400)]
    assert counts == [1, 2, 3, 3, 4]


def test_scores_are_averaged_where_crops_overlap() -> None:
    sliding = SlidingCrops(8, 8, 6, "bilinear")
    context = {"image_size": torch.tensor([8, 14]), "map_size": torch.tensor([8, 14])}
    scores = torch.stack([torch.full((1, 8, 8), 1.0), torch.full((1, 8, 8), 3.0)])
    merged = sliding.merged(scores, context)
    assert merged.shape == (1, 8, 14)
    assert merged[0, 0].tolist() == [1.0] * 6 + [2.0] * 2 + [3.0] * 6


def test_the_pair_is_averaged_after_mirroring() -> None:
    context = {"image_size": torch.tensor([1, 2]), "map_size": torch.tensor([1, 2])}
    depth = torch.tensor([[[[1.0, 2.0]]], [[[4.0, 3.0]]]])
    assert FlippedPair(1, "bilinear").merged(depth, context).tolist() == [[2.0, 3.0]]


def test_a_context_that_does_not_fit_is_refused(
    models: dict[str, Vit], inputs: dict[str, list[Any]]
) -> None:
    for config in MAPS:
        capture = models[config].front(inputs[config][0])
        for size in ([64, 900], [8, 8], [0, 64]):
            context = {**capture.context, "image_size": torch.tensor(size)}
            with pytest.raises(SampleError, match="context"):
                models[config].back(capture.features, context)


@pytest.mark.parametrize("config", MAPS)
def test_a_missing_head_says_what_to_put_where(
    config: str, tmp_path: Path, inputs: dict[str, list[Any]]
) -> None:
    profile = tiny(config)
    source = bundled_path(profile.model.id.removeprefix("bundled:"))
    folder = Path(shutil.copytree(source, tmp_path / "m"))
    for head in folder.glob("*_head.safetensors"):
        head.unlink()
    model = profile.model.model_copy(update={"id": str(folder)})
    headless = Vit.load(profile.model_copy(update={"model": model}))
    headless.front(inputs[config][0])
    with pytest.raises(ModelError, match=r"no \w+_head\.safetensors of levels\.norms") as caught:
        headless.plain(inputs[config][0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", MAPS)
def test_the_head_of_another_task_is_refused(config: str, tmp_path: Path) -> None:
    profile = tiny(config)
    source = bundled_path(profile.model.id.removeprefix("bundled:"))
    folder = Path(shutil.copytree(source, tmp_path / "m"))
    (head,) = folder.glob("*_head.safetensors")
    shutil.copy(bundled_path("vit") / "head.safetensors", head)
    model = profile.model.model_copy(update={"id": str(folder)})
    with pytest.raises(ModelError, match=r"_head\.safetensors has no .*; needs levels"):
        Vit.load(profile.model_copy(update={"model": model}))


def test_malformed_declarations_are_refused() -> None:
    profile = tiny("ade20k-vit")
    mixed = (profile.keys[0], profile.keys[1].model_copy(update={"axes": ("view", "token", "dim")}))
    with pytest.raises(DeclarationError, match="all of axes"):
        Vit.load(profile.model_copy(update={"keys": mixed}))
    for entries in ({}, {"short_side": 32, "crop": 64, "stride": 42, "interpolation": "bilinear"}):
        with pytest.raises(DeclarationError, match="preprocess"):
            SlidingCrops.declared(profile.model_copy(update={"preprocess": entries}))
    with pytest.raises(DeclarationError, match="preprocess"):
        FlippedPair.declared(profile)
    modes = {"multi": profile.modes["multi"].model_copy(update={"context": ("image_size",)})}
    with pytest.raises(DeclarationError, match="map_size"):
        Vit.load(profile.model_copy(update={"modes": modes}))


def test_full_size_inputs_give_the_declared_tokens() -> None:
    image = {"in1k-vit": (480, 640), "ade20k-vit": (512, 683), "nyuv2-vit": (480, 640)}
    for config, size in image.items():
        profile = load_scenario(config).profile("full")
        prepare = TASKS[profile.keys[0].axes][0].declared(profile)
        pixels, context = prepare.prepare(np.zeros((*size, 3), np.uint8))
        lead, (height, width) = prepare.batch(context)
        assert tuple(pixels.shape) == (*(lead or (1,)), 3, height, width)
        assert 5 + (height // 16) * (width // 16) == profile.keys[0].shape[-2]


def bigger(folder: Path) -> Path:
    """Write a DINOv3 of twelve narrow blocks, without a head."""
    config = transformers.DINOv3ViTConfig(
        image_size=64,
        patch_size=16,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=12,
        num_attention_heads=2,
        num_register_tokens=4,
        use_gated_mlp=True,
    )
    with quiet():
        transformers.DINOv3ViTModel(config).save_pretrained(folder)
    return folder


def test_a_declaration_is_brought_to_another_backbone(tmp_path: Path) -> None:
    folder = bigger(tmp_path / "other")
    for config, tokens in (("ade20k-vit", 3141), ("nyuv2-vit", 3077), ("in1k-vit", 1029)):
        profile = load_scenario(config).profile("full")
        model = profile.model.model_copy(update={"id": str(folder)})
        adapted = Vit.adapted(profile.model_copy(update={"model": model}))
        levels = [2, 11] if config == "in1k-vit" else [2, 5, 8, 11]
        assert [key.name for key in adapted.keys] == [f"layer.{i}" for i in levels]
        assert {key.shape[-2:] for key in adapted.keys} == {(tokens, 32)}
        singles = [f"single:{i}" for i in levels]
        modes = ["layer.2", "layer.11"] if config == "in1k-vit" else ["multi", *singles]
        assert list(adapted.modes) == modes
        assert ProfileSpec.model_validate(adapted.model_dump()) == adapted
        assert Vit.load(adapted, half="front").parameters_total > 0
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="needs 'dinov3_vit'"):
        Vit.adapted(adapted)


def test_a_bad_image_is_skipped_and_the_rest_goes_on(tmp_path: Path) -> None:
    """The whole way: another backbone, ADE20K's own layout, one image that is none."""
    bigger(tmp_path / "other")
    random = np.random.default_rng(0)
    for split, count in (("training", 32), ("validation", 4)):
        for part in ("images", "annotations"):
            (tmp_path / "ade" / part / split).mkdir(parents=True)
        for i in range(count):
            name = tmp_path / "ade" / "{}" / split / f"ADE_{split}_{i}"
            image = random.integers(0, 256, (8, 8 + 4 * (i % 4), 3), np.uint8)
            Image.fromarray(image).save(str(name).format("images") + ".jpg")
            mask = random.integers(0, 151, image.shape[:2], np.uint8)
            Image.fromarray(mask).save(str(name).format("annotations") + ".png")
    (tmp_path / "ade/images/validation/ADE_validation_2.jpg").write_bytes(b"no image")
    small = {"short_side": 64, "crop": 64, "stride": 42, "interpolation": "bilinear"}
    profile = load_scenario("ade20k-vit").profile("full")
    model = profile.model.model_copy(update={"id": str(tmp_path / "other")})
    adapted = Vit.adapted(profile.model_copy(update={"model": model, "preprocess": small}))
    front = Vit.load(adapted, half="front")
    samples = SOURCES.load("ade20k")(adapted, tmp_path / "ade").select("test", 4)
    shapes, refused = [], []
    for sample in samples:
        try:
            shapes.append(tuple(front.front(sample.inputs).features["layer.11"].shape))
        except SampleError as error:
            refused.append((sample.id, str(error)))
    assert refused == [
        ("ADE_validation_2", "ADE_validation_2.jpg: not a whole image: unknown format")
    ]
    assert sorted(shapes) == [(1, 21, 32), (2, 21, 32), (4, 21, 32)]


@pytest.mark.parametrize("name", ["vit_seg", "vit_dep"])
def test_the_miniatures_are_small_and_recorded(name: str, models: dict[str, Vit]) -> None:
    folder = bundled_path(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    record = json.loads((folder / "training.json").read_text("utf-8"))
    config = {"vit_seg": "ade20k-vit", "vit_dep": "nyuv2-vit"}[name]
    assert models[config].revision == record["revision"]
    assert models[config].parameters_total == record["parameters"]


def test_the_miniatures_beat_answers_that_see_nothing() -> None:
    seg, dep = (
        json.loads((bundled_path(name) / "training.json").read_text("utf-8"))["held_out"]
        for name in ("vit_seg", "vit_dep")
    )
    assert seg["score"] > 5 * seg["majority_baseline"]
    assert dep["score"] < dep["mean_depth_baseline"]["rmse"] / 2
