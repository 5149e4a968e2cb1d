"""Both language families: what is captured, injected, answered, refused, and what is loaded."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from extraction.sources import SOURCES
from lamofcbench import load_dataset
from lamofcbench.errors import ModelError, SampleError, UnknownNameError
from lamofcbench.models import FAMILIES, bundled_path
from lamofcbench.models.text import TextFamily
from lamofcbench.scores.answers import last_number, letter
from lamofcbench.spec import ProfileSpec, load_scenario
from lamofcbench.store.verify import verify_store

TASKS = ("arc", "gsm8k", "hellaswag", "truthfulqa", "winogrande")
LANGUAGE = ("llm", "ssm")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=LANGUAGE)
def family(request: pytest.FixtureRequest) -> TextFamily:
    profile = load_scenario(f"arc-{request.param}").profile("tiny")
    loaded = FAMILIES.load(request.param).load(profile)
    assert isinstance(loaded, TextFamily)
    return loaded


def profile_of(task: str, family: TextFamily) -> ProfileSpec:
    return load_scenario(f"{task}-{family.name}").profile("tiny")


def samples(task: str, family: TextFamily, count: int) -> list[Any]:
    profile = profile_of(task, family)
    return list(SOURCES.load(profile.source.name)(profile).select("test", count))


@pytest.mark.parametrize("task", TASKS)
def test_capture_then_inject_equals_the_plain_model(family: TextFamily, task: str) -> None:
    for sample in samples(task, family, 6):
        capture = family.front(sample.inputs)
        assert not capture.context
        for mode in family.profile.modes:
            plain = family.plain(sample.inputs, mode)
            back = family.back(capture.features, {}, mode)
            assert torch.equal(back.logits, plain.logits)
            assert back.prediction == plain.prediction
        assert len(family.plain(sample.inputs).logits) >= 4
        assert len(family.back(capture.features, {}, "output").logits) == 1


def test_what_is_captured_is_what_is_declared(family: TextFamily) -> None:
    for sample in samples("truthfulqa", family, 3):
        capture = family.front(sample.inputs)
        assert capture.token_ids is not None
        count = len(capture.token_ids)
        for tensor in family.profile.keys:
            found = capture.features[tensor.name]
            stored = [count if size == "token" else size for size in tensor.shape]
            if tensor.name.endswith(("k_cache", "v_cache")):
                stored = [stored[1], stored[0], stored[2]]
            assert list(found.shape) == stored
            assert found.dtype == getattr(torch, tensor.captured)


def test_features_equal_those_of_hooks(family: TextFamily) -> None:
    """Written against the library alone: hooks and its own cache."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = bundled_path(family.name)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    blocks = plain.model.layers if family.name == "llm" else plain.backbone.layers
    kept: list[torch.Tensor] = []
    blocks[4].register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    for sample in samples("arc", family, 3):
        turn = [{"role": "user", "content": sample.inputs["prompt"]}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text + sample.inputs["prefix"], return_tensors="pt").input_ids
        with torch.no_grad():
            out = plain(ids, use_cache=True)
        capture = family.front(sample.inputs)
        assert torch.equal(capture.features["layer.4.output"], kept.pop()[0])
        for i in range(5):
            if family.name == "llm":
                layer = out.past_key_values.layers[i]
                pairs = {"k_cache": layer.keys, "v_cache": layer.values}
            else:
                layer = out.cache_params.layers[i]
                pairs = {"ssm_state": layer.recurrent_states[0], "conv_state": layer.conv_states[0]}
            for kind, value in pairs.items():
                assert torch.equal(capture.features[f"layer.{i}.{kind}"], value[0])


def test_the_front_half_alone_loads_less_and_gives_the_same(family: TextFamily) -> None:
    front = type(family).load(family.profile, half="front")
    assert front.parameters_loaded < family.parameters_loaded == family.parameters_total
    assert front.parameters_total == family.parameters_total
    assert front.revision == family.revision == type(family).revision_of(family.profile)
    for sample in samples("winogrande", family, 3):
        ours, whole = front.front(sample.inputs), family.front(sample.inputs)
        for key, value in whole.features.items():
            assert torch.equal(ours.features[key], value)
        with pytest.raises(ModelError, match="only its front half was loaded"):
            front.back(ours.features, {})


def test_later_tokens_read_the_states(family: TextFamily) -> None:
    """Noise in place of the states leaves the first token alone and changes what follows."""
    generator = torch.Generator().manual_seed(0)
    changed = 0
    for sample in samples("gsm8k", family, 6):
        capture = family.front(sample.inputs)
        noisy = {
            key: value
            if key == "layer.4.output"
            else (torch.randn(value.shape, generator=generator) * 3).to(value.dtype)
            for key, value in capture.features.items()
        }
        whole, spoilt = family.back(capture.features, {}), family.back(noisy, {})
        assert torch.equal(whole.logits[0], spoilt.logits[0])
        changed += whole.prediction != spoilt.prediction
    assert changed >= 4


def test_a_key_outside_the_mode_is_refused(family: TextFamily) -> None:
    class Nosy(type(family)):  # type: ignore[misc]
        def _back(self, features: Any, context: Any, mode: str) -> Any:
            return features["layer.0.k_cache"]

    model = Nosy.load(family.profile)
    capture = model.front(samples("arc", family, 1)[0].inputs)
    with pytest.raises(UnknownNameError, match=r"layer\.0\.k_cache"):
        model.back(capture.features, {}, "output")


def test_held_out_scores_are_the_recorded_ones(family: TextFamily) -> None:
    record = json.loads((bundled_path(family.name) / "training.json").read_text("utf-8"))
    assert record["revision"] == family.revision
    for task in TASKS:
        stated = record["held_out"][task]
        assert stated["score"] > stated["baseline"] + 0.2
    for task, read in (("arc", letter), ("gsm8k", last_number)):
        right = [
            read(family.plain(sample.inputs).prediction) == sample.reference["answer"]
            for sample in samples(task, family, 100)
        ]
        assert sum(right) / len(right) == record["held_out"][task]["score"]


def test_an_empty_prompt_is_refused(family: TextFamily) -> None:
    with pytest.raises(SampleError, match="the prompt is empty"):
        family.front({"prompt": " \n", "prefix": ""})


def llama(folder: Path, layers: int = 7) -> Path:
    """A Llama checkpoint with random weights and the bundled tokenizer."""
    source = bundled_path("llm")
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=layers,
            num_attention_heads=6,
            num_key_value_heads=3,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=1,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_another_decoder_is_adapted_to(tmp_path: Path) -> None:
    declared = load_scenario("arc-llm").profile("tiny")
    spec = declared.model.model_copy(update={"id": str(llama(tmp_path / "llama"))})
    llm = FAMILIES.load("llm")
    profile = llm.adapted(declared.model_copy(update={"model": spec}))
    assert profile.key("layer.3.k_cache").shape == ("token", 3, 8)
    assert profile.key("layer.4.output").shape == ("token", 48)
    model = llm.load(profile)
    source = SOURCES.load(profile.source.name)(profile)
    for sample in source.select("test", 2):
        capture = model.front(sample.inputs)
        assert torch.equal(
            model.back(capture.features, {}).logits, model.plain(sample.inputs).logits
        )


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "vit"}, "is no decoder with a key-value cache"),
        ({"model_type": "qwen3", "num_hidden_layers": 5}, "."),
        ({"hidden_size": 32}, "."),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(
    tmp_path: Path, config: dict[str, Any], says: str
) -> None:
    folder = llama(tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **config}), "utf-8")
    declared = load_scenario("arc-llm").profile("tiny")
    spec = declared.model.model_copy(update={"id": str(folder)})
    with pytest.raises(ModelError, match=says) as caught:
        FAMILIES.load("llm").load(declared.model_copy(update={"model": spec}))
    assert "\n" not in str(caught.value)


def test_an_extraction_takes_another_model(tmp_path: Path) -> None:
    """``make extract SCENARIO=arc-llm MODEL=folder`` with a Llama, then back from the archive."""
    folder = llama(tmp_path / "My Llama 7")
    archive = tmp_path / "archive"
    command = [sys.executable, "-m", "extraction", "arc-llm", "--model", folder]
    subprocess.run(
        [*command, "--samples", "3", "--archive", archive],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
    )
    ds = load_dataset(archive, "arc-llm")
    assert ds.profile == "x-my-llama-7"
    assert ds.manifest.model.parameters_loaded < ds.manifest.model.parameters_total
    assert not verify_store(ds.store).findings
    model = FAMILIES.load("llm").load(ds.manifest.declaration)
    source = SOURCES.load("toy_arc")(ds.manifest.declaration)
    for item, sample in zip(ds, source.select("test", 3), strict=True):
        assert item["id"] == sample.id
        assert item["features"]["layer.4.k_cache"].shape == (3, item["lengths"]["token"], 8)
        for mode in model.profile.modes:
            back = model.back(item["features"], item["context"], mode)
            assert torch.equal(back.logits, model.plain(sample.inputs, mode).logits)
