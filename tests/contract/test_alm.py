import json

import numpy as np
import pytest
import torch

from extraction.sources import SOURCES
from extraction.tiny.alm_scores import FIRST, score
from lamofcbench.errors import ModelError, SampleError, UnknownNameError
from lamofcbench.models import bundled_path, load_family
from lamofcbench.models.alm import Penalty
from lamofcbench.models.audio import SAMPLE_RATE, Adaptor
from lamofcbench.models.tokens import Resumed, greedy
from lamofcbench.spec import load_scenario

TASKS = ("librispeech-clean", "librispeech-other", "advbench", "openbookqa", "sdqa")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # Threads cost more than they bring at this size, above all on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def profile_of(task, name="tiny"):
    return load_scenario(f"{task}-alm").profile(name)


@pytest.fixture(scope="module")
def family():
    return load_family("alm", profile_of("sdqa"))


@pytest.fixture(scope="module")
def samples():
    found = {}
    for task in TASKS:
        profile = profile_of(task)
        source = SOURCES.load(profile.source.name)(profile)
        found[task] = source.select("test", profile.samples.test)
    return found


@pytest.fixture(scope="module")
def some(samples):
    return [sample for task in TASKS for sample in samples[task][:6]]


@pytest.fixture(scope="module")
def captures(family, some):
    return [family.front(s.inputs) for s in some]


@pytest.fixture(scope="module")
def plain(family, some):
    return [family.plain(s.inputs) for s in some]


def test_injected_features_give_the_plain_answer_bit_for_bit(family, captures, plain):
    for capture, whole in zip(captures, plain, strict=True):
        # What is read back from a store is contiguous and lies elsewhere in memory.
        features = {
            k: torch.tensor(v.float().numpy()).bfloat16() for k, v in capture.features.items()
        }
        answer = family.back(features, {}, "handoff")
        assert answer.prediction == whole.prediction
        assert answer.logits.dtype == torch.float32
        assert torch.equal(answer.logits, whole.logits)
        first = family.back(features, {}, "output")
        assert torch.equal(first.logits, whole.logits[:1])
        assert whole.prediction.startswith(first.prediction)


def test_every_key_of_a_mode_is_read_and_no_other(family, captures):
    for mode, spec in family.profile.modes.items():
        features = {k: captures[0].features[k] for k in spec.keys}
        family.back(features, {}, mode)
        for key in spec.keys:
            with pytest.raises(KeyError):
                family.back({k: v for k, v in features.items() if k != key}, {}, mode)


def test_a_key_outside_the_mode_raises(family, captures):
    class Curious(type(family)):
        def _back(self, features, context, mode):
            return features["layer.0.k_cache"]

    curious = Curious(family.profile, family.parts)
    curious.back(captures[0].features, {}, "handoff")
    with pytest.raises(UnknownNameError, match="mode output"):
        curious.back(captures[0].features, {}, "output")
    with pytest.raises(UnknownNameError):
        curious.back(captures[0].features, {}, "whole")


def test_caches_of_another_length_are_refused(family, captures):
    features = dict(captures[0].features)
    features["layer.2.k_cache"] = features["layer.2.k_cache"][:, 1:]
    with pytest.raises(SampleError, match=r"layer\.2"):
        family.back(features, {}, "handoff")


def test_zeroed_features_change_the_answer(family, captures, plain):
    for mode in family.profile.modes:
        changed = 0
        for capture, whole in zip(captures, plain, strict=True):
            zeros = {k: torch.zeros_like(v) for k, v in capture.features.items()}
            answer = family.back(zeros, {}, mode).logits
            changed += not torch.equal(answer[0], whole.logits[0])
        assert changed == len(captures), mode


def test_captures_are_as_declared(family, captures):
    profile = family.profile
    for capture in captures:
        assert list(capture.features) == [tensor.name for tensor in profile.keys]
        assert not capture.context
        length = len(capture.features["layer.4.output"])
        assert length <= profile.ragged["token"].max
        for spec in profile.keys:
            tensor = capture.features[spec.name]
            assert tensor.dtype == torch.bfloat16
            expected = [length, *spec.shape[1:]]
            if spec.name.endswith("_cache"):  # the model's own layout is head-major
                tensor = tensor.transpose(0, 1)
            assert list(tensor.shape) == expected


@pytest.mark.parametrize("task", TASKS)
def test_lengths_vary_and_stay_within_bounds(family, samples, task):
    lengths = [len(family.prompt(s.inputs)[0][0]) for s in samples[task]]
    assert max(lengths) <= profile_of(task).ragged["token"].max
    assert max(lengths) >= 3 * min(lengths)


def test_token_ids_end_where_the_audio_begins(family, samples):
    special = family.parts.special
    ids = family.front(samples["librispeech-clean"][0].inputs).token_ids.tolist()
    assert ids[0] == special["user"]
    assert ids[-1] == special["media_begin"]
    assert family.parts.tokenizer.decode(ids[1:-1]) == "transcribe :"
    assert len(family.front(samples["sdqa"][0].inputs).token_ids) == 2


def embeddings_by_hand(family, inputs):
    """The prompt's embeddings, put together from the parts as the published model describes."""
    parts, special = family.parts, family.parts.special
    blank = special["blank"]
    words = parts.tokenizer(inputs["prompt"], add_special_tokens=False)["input_ids"]
    codes, frames = parts.ear.hear(inputs["audio"])
    audio_ids = [special["user"]] + [blank] * len(words) + [special["media_begin"]]
    start = len(audio_ids)
    audio_ids += [int(c) + parts.offset for c in codes]
    mask = torch.zeros(len(audio_ids) + 4, dtype=torch.bool)
    mask[start : len(audio_ids)] = True
    audio_ids += [special[r] for r in ("media_end", "to_text", "message_end", "assistant")]
    text_ids = [blank] + words + [blank] * (len(audio_ids) - 1 - len(words))
    embed = family.model.model.embed_tokens
    e = embed(torch.tensor(audio_ids))
    e[mask] = (e[mask] + parts.adaptor(frames)) * 2**0.5
    return (e + embed(torch.tensor(text_ids)))[None]


def test_features_equal_those_of_independent_hooks(family, some, captures):
    layer = family.model.model.layers[4]
    for sample, capture in zip(some[::5], captures[::5], strict=True):
        seen = []
        hook = layer.register_forward_hook(lambda _m, _i, output, seen=seen: seen.append(output))
        try:
            with torch.inference_mode():
                out = family.model(
                    inputs_embeds=embeddings_by_hand(family, sample.inputs), use_cache=True
                )
        finally:
            hook.remove()
        assert torch.equal(seen[0][0], capture.features["layer.4.output"])
        for i in range(5):
            cached = out.past_key_values.layers[i]
            assert torch.equal(cached.keys[0], capture.features[f"layer.{i}.k_cache"])
            assert torch.equal(cached.values[0], capture.features[f"layer.{i}.v_cache"])


def test_hearing_is_the_library_s_whisper(family, some):
    audio = some[0].inputs["audio"]
    ear = family.parts.ear
    with torch.inference_mode():
        codes, frames = ear.hear(audio)
        mel = ear.extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        whole = ear.encoder(mel.bfloat16()).last_hidden_state[0]
    count = -(-len(audio) // 1280)
    assert codes.shape == (count,)
    assert torch.equal(frames, whole[: 4 * count].reshape(count, 192))
    assert 0 <= int(codes.min()) <= int(codes.max()) < len(ear.codebook.entries)


def test_long_audio_is_heard_window_by_window(family):
    rng = np.random.default_rng(0)
    audio = (rng.standard_normal(SAMPLE_RATE * 6 + 100) * 0.05).astype(np.float32)
    codes, frames = family.parts.ear.hear(audio)
    assert len(codes) == len(frames) == 76
    window = family.parts.ear.extractor.n_samples
    assert torch.equal(family.parts.ear.hear(audio[:window])[1], frames[:50])
    inputs = {"audio": audio}  # without a prompt at all
    answer = family.back(family.front(inputs).features, {}, "handoff")
    assert torch.equal(answer.logits, family.plain(inputs).logits)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(1500, np.float32), "0.09 s"),
        (np.zeros(0, np.float32), "0.00 s"),
        (np.zeros(16000 * 60 + 200, np.float32), "60.01 s"),
        (np.zeros(16000), "float64"),
        (np.zeros((16000, 2), np.float32), "float32 at 16 kHz"),
        ([0.0] * 16000, "list"),
        (None, "cannot be decoded"),
        (np.full(16000, np.nan, np.float32), "not finite"),
    ],
)
def test_bad_audio_is_a_sample_error(family, audio, message):
    for run in (family.front, family.plain):
        with pytest.raises(SampleError, match=message):
            run({"audio": audio, "prompt": ""})


def test_a_prompt_that_is_no_text_is_a_sample_error(family, some):
    with pytest.raises(SampleError, match="prompt must be text"):
        family.front({"audio": some[0].inputs["audio"], "prompt": 5})


@pytest.mark.parametrize("task", TASKS)
def test_held_out_scores_are_the_recorded_ones(family, samples, task):
    report = json.loads((bundled_path("alm") / "training.json").read_text("utf-8"))
    recorded = report["held_out"][task]
    chosen = samples[task][:FIRST]
    answers = [family.plain(s.inputs).prediction for s in chosen]
    found = score(task, answers, chosen)
    assert found == pytest.approx(recorded["score_of_first"], abs=1e-6)
    # Low is good for error rates alone.
    better = recorded["baseline"] - recorded["score"]
    if task == "advbench":
        assert recorded["harmless_refused"] < 0.2 < 0.8 < recorded["score"]
    else:
        assert (better if task.startswith("librispeech") else -better) > 0.3


def test_other_is_harder_than_clean():
    report = json.loads((bundled_path("alm") / "training.json").read_text("utf-8"))["held_out"]
    clean, other = (report[f"librispeech-{kind}"]["score"] for kind in ("clean", "other"))
    assert clean < 0.15
    assert other > 1.5 * clean


def test_the_penalty_follows_the_published_sampler():
    penalty = Penalty(2.0, 3)
    logits = torch.tensor([4.0, -1.0, 3.0, 1.0])
    assert torch.equal(penalty.apply(logits, [0, 1, 2]), logits)
    expected = torch.tensor([2.0, -2.0, 1.5, 1.0])
    assert torch.equal(penalty.apply(logits, [3, 0, 1, 2]), expected)
    # Said twice lately counts once.
    assert penalty.apply(logits, [1, 3, 0, 0])[0] == 2.0
    assert torch.equal(logits, torch.tensor([4.0, -1.0, 3.0, 1.0]))
    assert torch.equal(Penalty(1.0, 1).apply(logits, [0, 0]), logits)


def test_decoding_turns_away_from_what_was_said():
    scores = torch.tensor([2.0, 1.9, 0.0])
    resumed = Resumed(scores, lambda ids, _done: scores.expand(len(ids), -1))

    tokens, logits = greedy(resumed, 5, [2], Penalty(1.1, 2).apply)
    assert tokens == [0, 0, 0, 1, 0]
    assert torch.equal(logits, scores.expand(5, 3))
    assert greedy(resumed, 5, [0], Penalty().apply)[0] == [0]


def test_loading_is_silent(capfd):
    load_family("alm", profile_of("sdqa"))
    assert capfd.readouterr() == ("", "")


def test_the_miniature_is_small_and_all_of_it_is_loaded(family):
    folder = bundled_path("alm")
    weights = list(folder.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) < 1_000_000
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in weights)
    assert family.parameters_loaded == family.parameters_total
    trained = json.loads((folder / "training.json").read_text("utf-8"))
    assert trained["parameters"] == family.parameters_total
    assert trained["revision"] == family.revision


def test_the_front_half_alone_gives_the_same_features(family, some, captures):
    front = load_family("alm", family.profile, half="front")
    assert front.revision == family.revision == type(family).revision_of(family.profile)
    assert front.parameters_loaded < family.parameters_loaded
    assert front.parameters_total == family.parameters_total
    for sample, capture in zip(some[::7], captures[::7], strict=True):
        again = front.front(sample.inputs)
        assert all(torch.equal(again.features[k], v) for k, v in capture.features.items())
    with pytest.raises(ModelError, match="only its front half"):
        front.plain(some[0].inputs)
    with pytest.raises(ModelError, match="only its front half"):
        front.back(captures[0].features, {}, "handoff")


def test_the_full_size_has_the_published_shapes():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.device("meta"):
        trunk = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=168448,
                hidden_size=3584,
                intermediate_size=18944,
                num_hidden_layers=28,
                num_attention_heads=28,
                num_key_value_heads=4,
            )
        ).bfloat16()
        adaptor = Adaptor(5120, 3584, 1e-6).bfloat16()
        frames = adaptor(torch.zeros(1, 40, 5120, dtype=torch.bfloat16))
        out = trunk(inputs_embeds=frames, use_cache=True)
    assert {k for k, _ in adaptor.named_parameters()} == {
        f"layers.{i}.{kind}" for i in (0, 3, 4) for kind in ("weight", "bias")
    }
    for task in TASKS:
        for spec in profile_of(task, "full").keys:
            _, index, kind = spec.name.split(".")
            assert spec.captured == "bfloat16"
            if kind == "output":
                assert spec.shape == ("token", frames.shape[-1])
            else:
                keys = out.past_key_values.layers[int(index)].keys
                assert spec.shape == ("token", keys.shape[1], keys.shape[3])
                assert keys.dtype == torch.bfloat16
