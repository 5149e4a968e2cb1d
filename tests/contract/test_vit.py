import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extraction.sources.digits import Digits
from extraction.tiny.vit import evaluate
from lamofcbench import optional
from lamofcbench.errors import (
    DeclarationError,
    MissingDependencyError,
    ModelError,
    SampleError,
    UnknownNameError,
)
from lamofcbench.models import bundled_path, load_family
from lamofcbench.models.heads.linear import LinearHead
from lamofcbench.models.vit import Vit
from lamofcbench.models.vit_inputs import Preprocess
from lamofcbench.spec import ProfileSpec, load_scenario

HEAD_FILE = LinearHead.file
PROFILE = load_scenario("in1k-vit").profile("tiny")
MODES = list(PROFILE.modes)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> Vit:
    loaded = load_family("vit", PROFILE)
    assert isinstance(loaded, Vit)
    return loaded


@pytest.fixture(scope="module")
def images() -> list[Any]:
    return [sample.inputs for sample in Digits(PROFILE).select("test", 8)]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled_path("vit"), tmp_path / "checkpoint"))


def profile_of(model_id: str | Path, **fields: Any) -> ProfileSpec:
    changed = PROFILE.model.model_copy(update={"id": str(model_id), **fields})
    return PROFILE.model_copy(update={"model": changed})


@pytest.mark.parametrize("mode", MODES)
def test_capture_then_inject_equals_the_plain_model(
    model: Vit, images: list[Any], mode: str
) -> None:
    for inputs in images:
        capture, plain = model.front(inputs), model.plain(inputs)
        back = model.back(capture.features, capture.context, mode)
        assert torch.equal(back.logits, plain.logits)
        assert back.prediction == plain.prediction


@pytest.mark.parametrize("mode", MODES)
def test_features_in_unaligned_memory_give_the_same(
    model: Vit, images: list[Any], mode: str
) -> None:
    capture = model.front(images[0])
    unaligned = {}
    for key, feature in capture.features.items():
        storage = torch.empty(feature.numel() + 1)[1:]
        unaligned[key] = storage.view(feature.shape).copy_(feature)
    assert torch.equal(
        model.back(unaligned, capture.context, mode).logits, model.plain(images[0]).logits
    )


def test_a_changed_feature_changes_the_answer(model: Vit, images: list[Any]) -> None:
    capture, plain = model.front(images[0]), model.plain(images[0])
    for mode in MODES:
        zeros = {key: torch.zeros_like(value) for key, value in capture.features.items()}
        assert not torch.equal(model.back(zeros, capture.context, mode).logits, plain.logits)


def test_what_is_captured_is_what_is_declared(model: Vit, images: list[Any]) -> None:
    capture = model.front(images[0])
    for declared, tensors in ((PROFILE.keys, capture.features), (PROFILE.context, capture.context)):
        assert list(tensors) == [spec.name for spec in declared]
        for spec in declared:
            assert tensors[spec.name].shape == spec.shape
            assert tensors[spec.name].dtype == getattr(torch, spec.captured)
    assert capture.context["image_size"].tolist() == [32, 32]


def test_features_equal_those_of_hooks(model: Vit, images: list[Any]) -> None:
    """Written as a user of transformers would, with nothing of this package but the folder."""
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = bundled_path("vit")
    plain = transformers.DINOv3ViTModel.from_pretrained(folder, dtype=torch.float32).eval()
    seen: dict[str, torch.Tensor] = {}
    for i in (0, 3):

        def hook(_module: Any, _args: Any, output: torch.Tensor, key: str = f"layer.{i}") -> None:
            seen[key] = output[0].clone()

        plain.model.layer[i].register_forward_hook(hook)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    for inputs in images[:3]:
        grey = torch.tensor(inputs["image"]).float() / 255
        pixels = torch.nn.functional.interpolate(
            grey.expand(1, 3, 8, 8), (32, 32), mode="bilinear", antialias=True
        )
        with torch.no_grad():
            plain((pixels - mean) / std)
        capture = model.front(inputs)
        assert list(seen) == list(capture.features)
        for key, feature in capture.features.items():
            assert torch.equal(feature, seen[key])


def test_the_front_half_stops_after_the_last_declared_block(images: list[Any]) -> None:
    keys = tuple(tensor for tensor in PROFILE.keys if tensor.name == "layer.0")
    modes = {"layer.0": PROFILE.modes["layer.0"]}
    model = Vit.load(PROFILE.model_copy(update={"keys": keys, "modes": modes}), half="front")
    ran = []
    for i, block in enumerate(model._backbone.model.layer):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    model.front(images[0])
    assert ran == [0]


def test_the_back_half_runs_the_blocks_after_its_key(model: Vit, images: list[Any]) -> None:
    capture = model.front(images[0])
    ran: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, block in enumerate(model._backbone.model.layer)
    ]
    model.back(capture.features, capture.context, "layer.0")
    model.back(capture.features, capture.context, "layer.3")
    for hook in hooks:
        hook.remove()
    assert ran == [1, 2, 3]


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_needs_its_own_key_alone(model: Vit, images: list[Any], mode: str) -> None:
    capture = model.front(images[0])
    alone = {key: capture.features[key] for key in PROFILE.modes[mode].keys}
    model.back(alone, capture.context, mode)


def test_a_key_outside_the_mode_is_refused(images: list[Any]) -> None:
    class Nosy(Vit):
        def _back(self, features: Any, context: Any, mode: str) -> Any:
            return features["layer.3"]

    model = Nosy.load(PROFILE)
    capture = model.front(images[0])
    with pytest.raises(UnknownNameError, match=r"layer\.3"):
        model.back(capture.features, capture.context, "layer.0")


def test_an_unknown_mode_is_refused(model: Vit) -> None:
    with pytest.raises(UnknownNameError, match=r"layer\.1"):
        model.back({}, {}, "layer.1")


def test_a_feature_of_another_shape_is_refused(model: Vit, images: list[Any]) -> None:
    capture = model.front(images[0])
    short = {key: value[:-1] for key, value in capture.features.items()}
    with pytest.raises(SampleError, match=r"\[20, 96\]"):
        model.back(short, capture.context)


def test_the_held_out_score_is_the_recorded_one(model: Vit) -> None:
    record = json.loads((bundled_path("vit") / "training.json").read_text("utf-8"))
    score, baseline = evaluate(model)
    assert score == record["held_out"]["score"]
    assert baseline == record["majority_baseline"] == 0.1
    assert score >= 0.95
    assert model.revision == record["revision"]
    assert model.parameters_loaded == model.parameters_total == record["parameters"]


def test_the_miniature_is_small() -> None:
    assert sum(path.stat().st_size for path in bundled_path("vit").iterdir()) < 1_000_000


def test_weights_hold_no_more_than_bfloat16(model: Vit) -> None:
    for weight in (*model._backbone.parameters(), *model._head.parameters()):  # type: ignore[union-attr]
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weight.bfloat16().float())


def test_loading_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    logging.enable_progress_bar()
    verbosity = logging.get_verbosity()
    Vit.load(PROFILE)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()
    assert logging.get_verbosity() == verbosity


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")


def truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    "damage",
    [
        truncate("model.safetensors"),
        truncate("config.json"),
        truncate(HEAD_FILE),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: shutil.copy(folder / "model.safetensors", folder / HEAD_FILE),
        lambda folder: shutil.copy(folder / HEAD_FILE, folder / "model.safetensors"),
        lambda folder: edit_config(folder, model_type="vit"),
        lambda folder: edit_config(folder, num_hidden_layers=5),
        lambda folder: edit_config(folder, num_hidden_layers=3),
        lambda folder: edit_config(folder, hidden_size=64),
        lambda folder: edit_config(folder, hidden_size="wide"),
        pickled,
        shutil.rmtree,
    ],
    ids=lambda damage: None,
)
def test_a_broken_checkpoint_is_refused(checkpoint: Path, damage: Callable[[Path], Any]) -> None:
    damage(checkpoint)
    with pytest.raises(ModelError) as caught:
        Vit.load(profile_of(checkpoint))
    assert "\n" not in str(caught.value)
    assert str(checkpoint) in str(caught.value)


def test_an_unknown_miniature_is_refused() -> None:
    with pytest.raises(ModelError, match="bundled:nothing"):
        Vit.load(profile_of("bundled:nothing"))


def test_without_a_head_features_can_still_be_captured(
    model: Vit, checkpoint: Path, images: list[Any]
) -> None:
    (checkpoint / HEAD_FILE).unlink()
    headless = Vit.load(profile_of(checkpoint))
    capture = headless.front(images[0])
    for key, feature in model.front(images[0]).features.items():
        assert torch.equal(capture.features[key], feature)
    for run in (
        lambda: headless.plain(images[0]),
        lambda: headless.back(capture.features, capture.context),
    ):
        with pytest.raises(ModelError, match=HEAD_FILE):
            run()


def test_the_revision_follows_the_files(model: Vit, checkpoint: Path) -> None:
    assert Vit.load(profile_of(checkpoint)).revision == model.revision
    edit_config(checkpoint, initializer_range=0.03)
    assert Vit.load(profile_of(checkpoint)).revision != model.revision


def test_a_hub_checkpoint_is_taken_at_its_pinned_revision(
    model: Vit, checkpoint: Path, images: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}
    files: list[str] = []

    def download(repo: str, file: str, **options: Any) -> str:
        asked.update(options, repo=repo)
        files.append(file)
        return str(checkpoint / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    hub = Vit.load(profile_of("org/dinov3", revision="a" * 40))
    assert (asked["repo"], asked["revision"]) == ("org/dinov3", "a" * 40)
    assert set(files) == {"config.json", "model.safetensors", HEAD_FILE}
    assert hub.revision == "a" * 40
    assert torch.equal(hub.plain(images[0]).logits, model.plain(images[0]).logits)


def test_a_key_beyond_the_last_block_is_refused() -> None:
    keys = (PROFILE.keys[0].model_copy(update={"name": "layer.4"}),)
    modes = {"layer.4": PROFILE.modes["layer.0"].model_copy(update={"keys": ("layer.4",)})}
    with pytest.raises(ModelError, match=r"4 blocks, so no layer\.4"):
        Vit.load(PROFILE.model_copy(update={"keys": keys, "modes": modes}))


def test_a_key_of_another_family_is_refused() -> None:
    keys = (PROFILE.keys[0].model_copy(update={"name": "layer.0.k_cache"}),)
    with pytest.raises(DeclarationError, match="k_cache"):
        Vit.load(PROFILE.model_copy(update={"keys": keys}))


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"resize": 32, "crop": 48, "interpolation": "bilinear"},
        {"resize": 32, "crop": "32", "interpolation": "bilinear"},
        {"resize": 32, "crop": 32, "interpolation": "nearest"},
        {"resize": 32, "crop": 32, "interpolation": "bilinear", "pad": 1},
    ],
)
def test_malformed_preprocessing_is_refused(entries: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="preprocess"):
        Preprocess.declared(PROFILE.model_copy(update={"preprocess": entries}))


def test_preprocessing_resizes_the_short_side_and_crops_the_centre() -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = (255, 128, 0)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for kind in ("bilinear", "bicubic"):
        pixels = Preprocess(32, 24, kind)(image)
        assert pixels.shape == (1, 3, 24, 24)
        colour = (np.array([1, 128 / 255, 0]) - mean) / std
        wanted = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1)
        assert torch.allclose(pixels, wanted.expand_as(pixels), atol=1e-6)


def test_preprocessing_of_an_image_of_the_right_size_only_normalises() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    image.setflags(write=False)
    pixels = Preprocess(32, 32, "bicubic")(image)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = ((image / 255 - mean) / std).transpose(2, 0, 1)
    assert np.allclose(pixels[0].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image: Any) -> None:
    with pytest.raises(SampleError, match="image"):
        Preprocess(32, 32, "bilinear")(image)


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDependencyError, match=r"pip install 'lamofcbench\[models\]'"):
        optional.require("a_library_that_is_not_there", "models")
    monkeypatch.setattr("importlib.import_module", lambda name: __import__("no_such_" + name))
    with pytest.raises(MissingDependencyError, match="transformers"):
        Vit.load(PROFILE)
