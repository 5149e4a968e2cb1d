import json
import shutil

import numpy as np
import pytest
import torch

from extraction.sources.digits_vqa import DigitsVqa
from extraction.tiny.mllm import question_only_score
from lamofcbench.errors import DeclarationError, ModelError, SampleError, UnknownNameError
from lamofcbench.models import bundled_path, load_family
from lamofcbench.models.decoder import declared_split
from lamofcbench.models.mllm import patchify, resize
from lamofcbench.scores.vqa_accuracy import vqa_accuracy
from lamofcbench.spec import load_scenario


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # Threads cost more than they bring at this size, above all on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def profile():
    return load_scenario("vqa-mllm").profile("tiny")


@pytest.fixture(scope="module")
def family(profile):
    return load_family("mllm", profile)


@pytest.fixture(scope="module")
def samples(profile):
    return DigitsVqa(profile).select("test", profile.samples.test)


@pytest.fixture(scope="module")
def captures(family, samples):
    return [family.front(s.inputs) for s in samples]


@pytest.fixture(scope="module")
def plain(family, samples):
    return [family.plain(s.inputs) for s in samples]


def at(profile, folder):
    spec = profile.model.model_copy(update={"id": str(folder)})
    return profile.model_copy(update={"model": spec})


@pytest.mark.parametrize("mode", ["lm4", "vision"])
def test_injected_features_give_the_plain_answer_bit_for_bit(family, captures, plain, mode):
    for capture, whole in zip(captures[:40], plain, strict=False):
        answer = family.back(capture.features, capture.context, mode)
        assert answer.prediction == whole.prediction
        assert answer.logits.dtype == torch.float32
        assert torch.equal(answer.logits, whole.logits)


@pytest.mark.parametrize("mode", ["lm4", "vision"])
def test_features_survive_a_copy(family, captures, plain, mode):
    # What is read back from a store is contiguous and lies elsewhere in memory.
    for capture, whole in zip(captures[:5], plain, strict=False):
        features = {
            k: torch.tensor(v.float().numpy()).bfloat16() for k, v in capture.features.items()
        }
        answer = family.back(features, capture.context, mode)
        assert torch.equal(answer.logits, whole.logits)


@pytest.mark.parametrize("mode", ["lm4", "vision"])
def test_every_key_of_a_mode_is_read_and_no_other(family, profile, captures, mode):
    capture = captures[0]
    keys, context = profile.mode(mode).keys, profile.mode(mode).context
    features = {k: capture.features[k] for k in keys}
    only = {k: capture.context[k] for k in context}
    family.back(features, only, mode)
    for key in keys:
        with pytest.raises(KeyError):
            family.back({k: v for k, v in features.items() if k != key}, only, mode)


def test_a_key_outside_the_mode_raises(profile, captures):
    class Curious(type(load_family("mllm", profile))):
        def _back(self, features, context, mode):
            return features["vision.output"]

    curious = Curious.load(profile)
    with pytest.raises(UnknownNameError, match="mode lm4"):
        curious.back(captures[0].features, captures[0].context, "lm4")
    with pytest.raises(UnknownNameError):
        curious.back(captures[0].features, captures[0].context, "lm5")


def test_zeroed_features_change_the_answer(family, profile, captures, plain):
    for mode in profile.modes:
        changed = 0
        for capture, whole in zip(captures[:20], plain, strict=False):
            zeros = {k: torch.zeros_like(v) for k, v in capture.features.items()}
            changed += family.back(zeros, capture.context, mode).prediction != whole.prediction
        assert changed > 8, mode


def test_captures_are_as_declared(profile, captures):
    bounds = {axis: ragged.max for axis, ragged in profile.ragged.items()}
    for capture in captures:
        for declared, tensors in (
            (profile.keys, capture.features),
            (profile.context, capture.context),
        ):
            assert list(tensors) == [tensor.name for tensor in declared]
            for spec in declared:
                tensor = tensors[spec.name]
                assert str(tensor.dtype) == f"torch.{spec.captured}"
                if spec.name.endswith("_cache"):  # the model's own layout is head-major
                    tensor = tensor.transpose(0, 1)
                assert tensor.ndim == len(spec.shape)
                for size, limit in zip(tensor.shape, spec.shape, strict=True):
                    assert size <= bounds[limit] if isinstance(limit, str) else size == limit


def test_lengths_vary_threefold_and_answers_have_four_tokens(family, captures, plain):
    lengths = [len(c.context["token_ids"]) for c in captures]
    assert max(lengths) >= 3 * min(lengths)
    assert min(len(p.logits) for p in plain) >= 4
    assert max(len(p.logits) for p in plain) <= family.profile.preprocess["max_new_tokens"]


def test_context_places_the_image(family, captures):
    image = family.model.config.image_token_id
    for capture in captures:
        count = int(capture.context["image_grid"].prod()) // 4
        start = int(capture.context["image_start"])
        ids = capture.context["token_ids"].tolist()
        assert [i for i, token in enumerate(ids) if token == image] == list(
            range(start, start + count)
        )
        assert len(capture.features["vision.output"]) == count


def test_features_equal_those_of_independent_hooks(family, samples, captures):
    model = family.model.model
    seen = {}

    def keep(name):
        def hook(_module, _inputs, output):
            seen[name] = output

        return hook

    hooks = [model.visual.merger.register_forward_hook(keep("vision.output"))]
    for k, merger in enumerate(model.visual.deepstack_merger_list):
        hooks.append(merger.register_forward_hook(keep(f"vision.deepstack.{k}")))
    hooks.append(model.language_model.layers[4].register_forward_hook(keep("layer.4.output")))
    try:
        for sample, capture in zip(samples[:4], captures, strict=False):
            prompt = family.prompt(sample.inputs)
            with torch.inference_mode():
                out = family.model(
                    input_ids=prompt.ids,
                    pixel_values=prompt.patches,
                    image_grid_thw=prompt.grid,
                    mm_token_type_ids=prompt.types,
                    use_cache=True,
                )
            for i in range(5):
                layer = out.past_key_values.layers[i]
                seen[f"layer.{i}.k_cache"], seen[f"layer.{i}.v_cache"] = layer.keys, layer.values
            assert set(seen) == set(capture.features)
            for name, tensor in capture.features.items():
                assert torch.equal(tensor, seen[name].reshape(tensor.shape)), name
    finally:
        for hook in hooks:
            hook.remove()


def test_front_half_runs_no_layer_beyond_the_split(family, samples):
    def refuse(_module, _inputs):
        raise AssertionError("a layer of the back half ran")

    hook = family.model.model.language_model.layers[5].register_forward_pre_hook(refuse)
    try:
        family.front(samples[0].inputs)
    finally:
        hook.remove()
    assert len(family.model.model.language_model.layers) == 6


def test_held_out_score_is_the_recorded_one(samples, plain):
    report = json.loads((bundled_path("mllm") / "training.json").read_text("utf-8"))
    score = np.mean(
        [
            vqa_accuracy(p.prediction, s.reference["answers"])
            for p, s in zip(plain, samples, strict=True)
        ]
    )
    assert score == pytest.approx(report["vqa_accuracy"], abs=1e-6)
    assert score >= 0.85
    baseline = question_only_score(report["seed"])
    assert baseline == pytest.approx(report["question_only_vqa_accuracy"], abs=1e-6)
    assert baseline <= 0.35


def test_the_revision_pins_what_is_loaded(family, profile, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(bundled_path("mllm"), folder)
    assert load_family("mllm", at(profile, folder)).revision == family.revision
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_config"]["rms_norm_eps"] = 1e-5
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    assert load_family("mllm", at(profile, folder)).revision != family.revision


def test_loading_is_silent(profile, capfd):
    load_family("mllm", profile)
    assert capfd.readouterr() == ("", "")


def _cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _garble_header(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\xff" * 64 + weights.read_bytes()[64:])


def _set(path, value):
    def change(folder):
        config = json.loads((folder / "config.json").read_text("utf-8"))
        inner = config
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = value
        (folder / "config.json").write_text(json.dumps(config), "utf-8")

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{", "utf-8"),
        lambda folder: (folder / "tokenizer.json").write_text("{", "utf-8"),
        lambda folder: [f.unlink() for f in folder.glob("tokenizer*")],
        _cut,
        _garble_header,
        _set(["model_type"], "qwen2_vl"),
        _set(["text_config", "hidden_size"], 32),
        _set(["text_config", "num_hidden_layers"], 7),
        _set(["text_config", "num_hidden_layers"], 5),
        _set(["vision_config", "deepstack_visual_indexes"], [0, 1]),
    ],
    ids=[
        "no weights",
        "no config",
        "config cut",
        "tokenizer cut",
        "no tokenizer",
        "weights cut",
        "weights garbled",
        "another architecture",
        "narrower",
        "a layer too few in the weights",
        "nothing after the split",
        "DeepStack level missing",
    ],
)
def test_a_broken_checkpoint_is_a_model_error_of_one_line(profile, tmp_path, damage):
    folder = tmp_path / "broken"
    shutil.copytree(bundled_path("mllm"), folder)
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load_family("mllm", at(profile, folder))
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_is_a_model_error(profile):
    with pytest.raises(ModelError, match="no such miniature"):
        load_family("mllm", at(profile, "bundled:none"))


@pytest.mark.parametrize("image", [np.zeros((16, 16), np.uint8), np.zeros((16, 16, 3), np.float32)])
def test_a_malformed_image_is_a_sample_error(family, image):
    with pytest.raises(SampleError, match="uint8"):
        family.front({"image": image, "question": "first digit?"})


def test_a_question_with_an_image_token_is_a_sample_error(family, samples):
    with pytest.raises(SampleError, match="once"):
        family.front({**samples[0].inputs, "question": "<|image_pad|>?"})


def test_other_sizes_and_wordings_are_taken(family):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (57, 130, 3), dtype=np.uint8)
    inputs = {"image": image, "question": "What's THIS?\nÄ."}
    capture = family.front(inputs)
    assert int(capture.context["image_grid"].prod()) * 64 <= 6144
    for mode in family.profile.modes:
        answer = family.back(capture.features, capture.context, mode)
        assert torch.equal(answer.logits, family.plain(inputs).logits)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (480, 640)),
        ((100, 100), (256, 256)),
        ((333, 500), (320, 512)),
        ((3000, 2000), (1248, 832)),
        ((20, 2000), (32, 1984)),
    ],
)
def test_resized_sides_follow_the_library(size, expected):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    assert resize(image, 32, 32 * 32 * 62, 1 << 20).shape[1:] == expected


def test_patches_to_be_merged_are_neighbours():
    image = torch.arange(32)[:, None] // 8 * 16 + torch.arange(48)[None] // 8
    patches = patchify(image.expand(1, 3, -1, -1).to(torch.uint8), 8, 2, 2)
    assert patches.shape == (24, 3 * 2 * 64)
    numbers = ((patches.mean(1) * 0.5 + 0.5) * 255).round().int().tolist()
    assert numbers[:8] == [0, 1, 16, 17, 2, 3, 18, 19]
    assert numbers[-4:] == [36, 37, 52, 53]


def test_a_split_is_read_from_the_declared_names():
    assert declared_split(["layer.0.k_cache", "layer.4.output", "vision.output"]) == 4
    for names in (["layer.0.k_cache"], ["layer.1.output", "layer.2.output"]):
        with pytest.raises(DeclarationError, match="split after one layer"):
            declared_split(names)
    with pytest.raises(DeclarationError, match=r"layer\.5\.k_cache"):
        declared_split(["layer.5.k_cache", "layer.4.output"])


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("seven", ["7"] * 10, 1.0),
        ("The Seven.", ["seven"] * 2 + ["six"] * 8, 2 / 3),
        ("a red-brick wall!", ["red brick wall"] + ["brick"] * 9, 1 / 3),
        ("1,000", ["1000"] * 3 + ["10"] * 7, 1.0),
        ("it's 3.5", ["its 3.5"] * 10, 1.0),
        ("", ["no"] * 10, 0.0),
    ],
)
def test_vqa_accuracy(prediction, answers, score):
    assert vqa_accuracy(prediction, answers) == pytest.approx(score)
