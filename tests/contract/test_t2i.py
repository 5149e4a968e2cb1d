import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extraction.sources.digits_t2i import DigitsT2i
from extraction.tiny.t2i_score import evaluate
from lamofcbench.errors import DeclarationError, ModelError, SampleError, UnknownNameError
from lamofcbench.models import bundled_path, load_family
from lamofcbench.models.t2i import Generation, T2i
from lamofcbench.spec import ProfileSpec, load_scenario

PROFILE = load_scenario("canny-t2i").profile("tiny")
MODES = list(PROFILE.modes)
FOLDER = bundled_path("t2i")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> T2i:
    loaded = load_family("t2i", PROFILE)
    assert isinstance(loaded, T2i)
    return loaded


@pytest.fixture(scope="module")
def samples() -> list[Any]:
    return [sample.inputs for sample in DigitsT2i(PROFILE).select("test", 4)]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "checkpoint"))


def profile_of(model_id: str | Path, **fields: Any) -> ProfileSpec:
    changed = PROFILE.model.model_copy(update={"id": str(model_id), **fields})
    return PROFILE.model_copy(update={"model": changed})


def prepared(**entries: Any) -> ProfileSpec:
    return PROFILE.model_copy(update={"preprocess": {**PROFILE.preprocess, **entries}})


def test_capture_then_inject_equals_the_plain_model(model: T2i, samples: list[Any]) -> None:
    for inputs in samples:
        capture, plain = model.front(inputs), model.plain(inputs)
        for mode in MODES:
            back = model.back(capture.features, capture.context, mode)
            assert torch.equal(back.logits, plain.logits)
            assert torch.equal(back.prediction, plain.prediction)


def test_features_in_unaligned_memory_give_the_same(model: T2i, samples: list[Any]) -> None:
    capture = model.front(samples[0])
    unaligned = {}
    for key, feature in capture.features.items():
        storage = torch.empty(feature.numel() + 1, dtype=feature.dtype)[1:]
        unaligned[key] = storage.view(feature.shape).copy_(feature)
    plain = model.plain(samples[0])
    for mode in MODES:
        assert torch.equal(model.back(unaligned, capture.context, mode).logits, plain.logits)


def test_what_is_captured_is_what_is_declared(model: T2i, samples: list[Any]) -> None:
    capture, plain = model.front(samples[0]), model.plain(samples[0])
    for declared, tensors in ((PROFILE.keys, capture.features), (PROFILE.context, capture.context)):
        assert list(tensors) == [spec.name for spec in declared]
        for spec in declared:
            assert tensors[spec.name].shape == spec.shape
            assert tensors[spec.name].dtype == getattr(torch, spec.captured)
            assert tensors[spec.name].isfinite().all()
    assert (plain.logits.shape, plain.logits.dtype) == ((3, 32, 32), torch.float32)
    assert (plain.prediction.shape, plain.prediction.dtype) == ((32, 32, 3), torch.uint8)


def test_features_equal_those_of_hooks(model: T2i, samples: list[Any]) -> None:
    """Written as a user of diffusers would, with nothing of this package but folder and seed."""
    import cv2
    import diffusers

    from lamofcbench.models.quiet import quiet

    with quiet("diffusers"):
        pipeline = diffusers.StableDiffusion3ControlNetPipeline.from_pretrained(
            FOLDER, dtype=torch.float16
        )
    pipeline.set_progress_bar_config(disable=True)
    seen: dict[str, list[torch.Tensor]] = {}

    def keep(key: str, tensor: torch.Tensor) -> None:
        seen.setdefault(key, []).append(tensor[0].clone())

    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):

        def text(_module: Any, _args: Any, output: Any, name: str = name) -> None:
            if name == "text_encoder_3":
                keep(f"{name}.hidden", output[0])
            else:
                keep(f"{name}.pooled", output[0])
                keep(f"{name}.hidden", output.hidden_states[-2])

        getattr(pipeline, name).register_forward_hook(text)
    pipeline.vae.encoder.register_forward_hook(lambda m, a, out: keep("vae.encoder", out))
    pipeline.vae.decoder.register_forward_pre_hook(lambda m, args: keep("vae.decoder", args[0]))
    for inputs in samples[:2]:
        seen.clear()
        capture = model.front(inputs)
        seed = int(capture.context["seed"])
        edges = cv2.Canny(cv2.cvtColor(inputs["image"], cv2.COLOR_RGB2GRAY), 50, 150)
        torch.manual_seed(seed + 1)
        image = pipeline(
            inputs["prompt"],
            control_image=torch.tensor(edges / 127.5 - 1).repeat(1, 3, 1, 1),
            num_inference_steps=8,
            guidance_scale=2.0,
            max_sequence_length=77,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images[0]
        found = {"vae.encoder": seen["vae.encoder"][0], "vae.decoder": seen["vae.decoder"][0]}
        for key in ("text_encoder", "text_encoder_2", "text_encoder_3"):
            for kind in ("hidden", "pooled") if key != "text_encoder_3" else ("hidden",):
                found[f"{key}.pos.{kind}"], found[f"{key}.neg.{kind}"] = seen[f"{key}.{kind}"]
        assert found.keys() == capture.features.keys()
        for key, feature in capture.features.items():
            assert torch.equal(feature, found[key]), key
        assert np.array_equal(model.plain(inputs).logits.permute(1, 2, 0).numpy(), image)


def test_both_copies_of_the_control_image_are_encoded_alike(model: T2i, samples: list[Any]) -> None:
    rows: list[torch.Tensor] = []
    hook = model._vae.encoder.register_forward_hook(lambda m, a, out: rows.extend(out))
    for inputs in samples:
        model.plain(inputs)
    hook.remove()
    assert len(rows) == 2 * len(samples)
    assert all(torch.equal(a, b) for a, b in zip(rows[::2], rows[1::2], strict=True))


def test_the_global_generator_is_neither_read_nor_moved(model: T2i, samples: list[Any]) -> None:
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        capture = model.front(samples[0])
        answers.append(model.back(capture.features, capture.context).logits)
        answers.append(model.plain(samples[0]).logits)
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_the_noise_follows_the_sample_and_the_declared_seed(model: T2i, samples: list[Any]) -> None:
    seeds = [int(model.front(inputs).context["seed"]) for inputs in samples]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**62 for seed in seeds)
    other = T2i(prepared(seed=43), model._pipeline, "")
    assert int(other.front(samples[0]).context["seed"]) != seeds[0]


def test_the_back_half_runs_no_encoder(model: T2i, samples: list[Any]) -> None:
    capture = model.front(samples[0])
    parts = model._pipeline
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in {
            "encoder": model._vae.encoder,
            "first": parts.text_encoder,
            "second": parts.text_encoder_2,
            "third": parts.text_encoder_3,
            "transformer": parts.transformer,
            "decoder": model._vae.decoder,
        }.items()
    ]
    model.back(capture.features, capture.context, "condition")
    assert ran == ["transformer"] * 8 + ["decoder"]
    ran.clear()
    model.back(capture.features, capture.context, "latent")
    assert ran == ["decoder"]
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_needs_its_own_keys_and_context_alone(
    model: T2i, samples: list[Any], mode: str
) -> None:
    capture, spec = model.front(samples[0]), PROFILE.modes[mode]
    features = {key: capture.features[key] for key in spec.keys}
    context = {name: capture.context[name] for name in spec.context}
    model.back(features, context, mode)
    assert PROFILE.modes["latent"].context == ()


def test_every_key_of_the_default_mode_changes_the_answer(model: T2i, samples: list[Any]) -> None:
    capture, plain = model.front(samples[0]), model.plain(samples[0])
    for key in PROFILE.modes["condition"].keys:
        zeroed = {**capture.features, key: torch.zeros_like(capture.features[key])}
        assert not torch.equal(model.back(zeroed, capture.context).logits, plain.logits), key


def test_text_and_edges_both_change_the_picture(model: T2i, samples: list[Any]) -> None:
    a, b = (model.front(inputs) for inputs in samples[1:3])
    own = model.back(a.features, a.context).logits
    text = {key: (b if "text" in key else a).features[key] for key in a.features}
    edges = {key: (b if "vae" in key else a).features[key] for key in a.features}
    for mixed in (text, edges):
        assert (model.back(mixed, a.context).logits - own).abs().mean() > 0.02


def test_a_key_outside_the_mode_is_refused(model: T2i, samples: list[Any]) -> None:
    class Nosy(T2i):
        def _back(self, features: Any, context: Any, mode: str) -> Any:
            return features["vae.decoder"], context["seed"]

    nosy = Nosy(PROFILE, model._pipeline, "")
    capture = model.front(samples[0])
    with pytest.raises(UnknownNameError, match=r"vae\.decoder"):
        nosy.back(capture.features, capture.context, "condition")
    with pytest.raises(UnknownNameError, match="seed"):
        nosy.back(capture.features, capture.context, "latent")


def test_a_feature_of_another_shape_is_refused(model: T2i, samples: list[Any]) -> None:
    capture = model.front(samples[0])
    short = {key: value[:-1] for key, value in capture.features.items()}
    for mode in MODES:
        with pytest.raises(SampleError, match="needs"):
            model.back(short, capture.context, mode)


@pytest.mark.parametrize(
    "inputs",
    [
        {"prompt": ""},
        {"prompt": " \n"},
        {"prompt": None},
        {"image": b"no image"},
        {"image": np.zeros((8, 8, 4), np.uint8)},
        {"image": np.zeros((8, 8), np.float32)},
    ],
)
def test_bad_input_is_refused(model: T2i, samples: list[Any], inputs: Any) -> None:
    for run in (model.front, model.plain):
        with pytest.raises(SampleError, match=r"^(prompt|image): [^\n]*$"):
            run({**samples[0], **inputs})


def test_a_prompt_beyond_the_tokens_is_cut_as_the_pipeline_cuts_it(
    model: T2i, samples: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = {**samples[0], "prompt": "a handwritten seven in red ink " * 40}
    capture = model.front(inputs)
    assert torch.equal(
        model.back(capture.features, capture.context).logits, model.plain(inputs).logits
    )
    assert capfd.readouterr() == ("", "")


def test_the_held_out_scores_are_the_recorded_ones(model: T2i) -> None:
    record = json.loads((FOLDER / "training.json").read_text("utf-8"))
    held_out = record["held_out"]
    assert held_out["samples"] == PROFILE.samples.test
    for other in ("other_edges", "other_caption"):
        assert held_out["model"]["psnr"] > held_out[other]["psnr"] + 1
    # Not beside another caption: edges alone tell the reader which digit it is.
    assert held_out["model"]["digit"] > held_out["other_edges"]["digit"] + 0.2
    assert held_out["model"]["edge_f1"] > held_out["other_edges"]["edge_f1"] + 0.1
    assert held_out["model"]["ink"] > held_out["other_caption"]["ink"] + 0.3
    first = evaluate(model, 8)
    assert first["model"].keys() == held_out["model"].keys()
    for name, value in record["first_8"].items():
        assert math.isclose(first["model"][name], value, abs_tol=1e-3), name
    assert model.revision == record["revision"]
    assert model.parameters_loaded == model.parameters_total == record["parameters"]


def test_the_miniature_is_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") < 950_000
    assert sum(path.stat().st_size for path in files) < 1_050_000


def test_loading_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    for logging in libraries:
        logging.enable_progress_bar()
    before = [logging.get_verbosity() for logging in libraries]
    T2i.load(PROFILE)
    assert capfd.readouterr() == ("", "")
    assert all(logging.is_progress_bar_enabled() for logging in libraries)
    assert [logging.get_verbosity() for logging in libraries] == before


def edit_config(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


WEIGHTS = "diffusion_pytorch_model.safetensors"
DAMAGES: dict[str, Callable[[Path], Any]] = {
    "cut transformer": lambda f: truncate(f / "transformer" / WEIGHTS),
    "cut text encoder": lambda f: truncate(f / "text_encoder" / "model.safetensors"),
    "no vae": lambda f: (f / "vae" / WEIGHTS).unlink(),
    "no controlnet": lambda f: shutil.rmtree(f / "controlnet"),
    "no tokenizer": lambda f: shutil.rmtree(f / "tokenizer_2"),
    "empty tokenizer": lambda f: [p.unlink() for p in (f / "tokenizer").iterdir()],
    "cut tokenizer": lambda f: truncate(f / "tokenizer_3" / "tokenizer.json"),
    "no scheduler": lambda f: shutil.rmtree(f / "scheduler"),
    "cut config": lambda f: truncate(f / "vae" / "config.json"),
    "config is a list": lambda f: (f / "vae" / "config.json").write_text("[]"),
    "other transformer": lambda f: edit_config(
        f / "transformer" / "config.json", _class_name="FluxTransformer2DModel"
    ),
    "other text encoder": lambda f: edit_config(
        f / "text_encoder_3" / "config.json", architectures=["BertModel"]
    ),
    "layers missing": lambda f: edit_config(f / "transformer" / "config.json", num_layers=3),
    "layers left over": lambda f: edit_config(
        f / "text_encoder_2" / "config.json", num_hidden_layers=1
    ),
    "other width": lambda f: edit_config(f / "text_encoder" / "config.json", hidden_size=32),
    "pickle": lambda f: (f / "vae" / WEIGHTS).rename(f / "vae" / "diffusion_pytorch_model.bin"),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_checkpoint_is_refused(checkpoint: Path, damage: str) -> None:
    DAMAGES[damage](checkpoint)
    with pytest.raises(ModelError) as caught:
        T2i.load(profile_of(checkpoint))
    assert "\n" not in str(caught.value)
    assert str(checkpoint) in str(caught.value)


def test_a_hub_checkpoint_and_its_controlnet_are_taken_at_their_revisions(
    model: T2i, checkpoint: Path, samples: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    shutil.move(checkpoint / "controlnet", checkpoint.parent / "control")
    asked: dict[str, Any] = {}

    def download(repo: str, **options: Any) -> str:
        asked[repo] = options
        return str({"org/sd": checkpoint, "org/canny": checkpoint.parent / "control"}[repo])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    entries = {"controlnet": "org/canny", "controlnet_revision": "b" * 40}
    profile = profile_of("org/sd", revision="a" * 40)
    profile = profile.model_copy(update={"preprocess": {**PROFILE.preprocess, **entries}})
    hub = T2i.load(profile)
    assert hub.revision == "a" * 40 + "+" + "b" * 40
    assert [asked[repo]["revision"] for repo in ("org/sd", "org/canny")] == ["a" * 40, "b" * 40]
    patterns = [p for options in asked.values() for p in options["allow_patterns"]]
    assert not any("bin" in pattern or "py" in pattern for pattern in patterns)
    assert torch.equal(hub.plain(samples[0]).logits, model.plain(samples[0]).logits)


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(*_: Any, **__: Any) -> str:
        raise OSError("403\nForbidden")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match=r"^org/sd: .*403; accept its licence[^\n]*$"):
        T2i.load(profile_of("org/sd", gated=True))
    with pytest.raises(ModelError, match="bundled:nothing"):
        T2i.load(profile_of("bundled:nothing"))


def test_a_declaration_that_the_model_does_not_fit_is_refused(model: T2i) -> None:
    keys = tuple(
        tensor.model_copy(update={"shape": (99,)}) if tensor.name.endswith("pos.pooled") else tensor
        for tensor in PROFILE.keys
    )
    with pytest.raises(ModelError, match="declared \\[99\\]"):
        T2i(PROFILE.model_copy(update={"keys": keys}), model._pipeline, "")
    other = (PROFILE.keys[0].model_copy(update={"name": "layer.4.output"}), *PROFILE.keys[1:])
    with pytest.raises(DeclarationError, match=r"layer\.4"):
        T2i(PROFILE.model_copy(update={"keys": other}), model._pipeline, "")
    mode = PROFILE.modes["latent"].model_copy(update={"keys": ("vae.decoder", "vae.encoder")})
    with pytest.raises(DeclarationError, match="mode latent"):
        T2i(PROFILE.model_copy(update={"modes": {"latent": mode}}), model._pipeline, "")


@pytest.mark.parametrize(
    "entries",
    [
        {"steps": 0},
        {"steps": 8.5},
        {"guidance": 1.0},
        {"guidance": "high"},
        {"size": True},
        {"canny_low": 200},
        {"strength": 1},
    ],
)
def test_malformed_preprocessing_is_refused(entries: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="preprocess"):
        Generation.declared(prepared(**entries))


def test_preprocessing_that_leaves_something_out_is_refused() -> None:
    rest = {name: value for name, value in PROFILE.preprocess.items() if name != "seed"}
    with pytest.raises(DeclarationError, match="preprocess: seed"):
        Generation.declared(PROFILE.model_copy(update={"preprocess": rest}))
