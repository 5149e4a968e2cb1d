"""What is loaded as a Kimi-Audio, and what is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from extraction.sources import SOURCES
from lamofcbench.errors import ModelError
from lamofcbench.models import bundled_path, load_family
from lamofcbench.spec import load_scenario


def profile_of(task):
    return load_scenario(f"{task}-alm").profile("tiny")


@pytest.fixture(scope="module")
def family():
    return load_family("alm", profile_of("sdqa"))


@pytest.fixture(scope="module")
def some():
    profile = profile_of("sdqa")
    return SOURCES.load(profile.source.name)(profile).select("test", 2)


def at(folder, task="sdqa"):
    profile = profile_of(task)
    return profile.model_copy(
        update={"model": profile.model.model_copy(update={"id": str(folder)})}
    )


def _json(name, **changes):
    def change(folder):
        config = json.loads((folder / name).read_text("utf-8"))
        config.update(changes)
        (folder / name).write_text(
            json.dumps({k: v for k, v in config.items() if v is not None}), "utf-8"
        )

    return change


def _drop(name, tensor):
    def change(folder):
        kept = {k: v for k, v in load_file(folder / name).items() if k != tensor}
        save_file(kept, folder / name, metadata={"format": "pt"})

    return change


def _cut(name):
    def change(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1000])

    return change


def _remove(name):
    return lambda folder: (folder / name).unlink()


WHISPER, TOKENS = "whisper-large-v3", "audio-tokenizer"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove("config.json"), "config.json"),
        (_remove("model.safetensors"), "model.safetensors"),
        (_remove("tokenizer.json"), "tokenizer.json.*tiktoken"),
        (_remove(f"{TOKENS}/config.json"), "audio-tokenizer.*glm-4-voice-tokenizer"),
        (_remove(f"{TOKENS}/model.safetensors"), "audio-tokenizer"),
        (_remove(f"{WHISPER}/model.safetensors"), "whisper-large-v3"),
        (_cut("model.safetensors"), "damaged"),
        (_cut(f"{WHISPER}/model.safetensors"), "damaged"),
        (_drop("model.safetensors", "model.layers.3.mlp.up_proj.weight"), "missing"),
        (_drop("model.safetensors", "model.vq_adaptor.layers.0.bias"), "layers.0.bias"),
        (_drop(f"{WHISPER}/model.safetensors", "model.encoder.conv1.bias"), "conv1.bias"),
        (_json("config.json", kimia_token_offset=None), "a Kimi-Audio is needed"),
        (_json("config.json", kimia_token_offset=100_000), "more codes"),
        (_json("config.json", hidden_size=32), "mismatched|cannot be loaded"),
        (_json("config.json", num_hidden_layers=7, layer_types=None), "missing"),
        (_json("config.json", num_hidden_layers=5, layer_types=None), "none after 4"),
        (_json(f"{WHISPER}/config.json", max_source_positions=100), "not of its"),
        (
            _json(f"{WHISPER}/preprocessor_config.json", chunk_length=30, nb_max_frames=3000),
            "not of its",
        ),
        (_json(f"{TOKENS}/config.json", model_type="whisper_vq"), "only a log_mel_codebook"),
        (lambda folder: (folder / "config.json").write_text("[", "utf-8"), "cannot be read"),
        (
            lambda folder: (folder / "tokenizer.json").write_text("{", "utf-8"),
            "tokenizer cannot be loaded",
        ),
    ],
)
def test_a_broken_checkpoint_is_a_model_error_of_one_line(tmp_path, damage, message):
    folder = tmp_path / "broken"
    shutil.copytree(bundled_path("alm"), folder)
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_family("alm", at(folder))
    assert "\n" not in str(caught.value)


def test_the_revision_pins_every_part(family, tmp_path):
    for name in ("config.json", f"{WHISPER}/preprocessor_config.json", f"{TOKENS}/config.json"):
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(bundled_path("alm"), folder)
        assert load_family("alm", at(folder)).revision == family.revision
        _json(name, comment="another")(folder)
        assert load_family("alm", at(folder)).revision != family.revision


def test_a_checkpoint_in_parts_with_audio_output_is_read(family, some, tmp_path):
    folder = tmp_path / "sharded"
    shutil.copytree(bundled_path("alm"), folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    tensors["model.mimo_layers.0.mlp.up_proj.weight"] = torch.ones(4, 4)
    tensors["mimo_output.weight"] = torch.ones(3, 4)
    names = sorted(tensors)
    places = {}
    for part in range(2):
        file = f"model-{part + 1}-of-2.safetensors"
        save_file({n: tensors[n] for n in names[part::2]}, folder / file, {"format": "pt"})
        places.update(dict.fromkeys(names[part::2], file))
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    loaded = load_family("alm", at(folder))
    assert loaded.parameters_total == loaded.parameters_loaded + 28
    inputs = some[0].inputs
    assert torch.equal(loaded.plain(inputs).logits, family.plain(inputs).logits)


def test_another_width_is_adapted_to(tmp_path):
    folder = tmp_path / "wide"
    shutil.copytree(bundled_path("alm"), folder)
    _json("config.json", hidden_size=96, num_key_value_heads=1, head_dim=24)(folder)
    keys = type(load_family("alm", profile_of("sdqa"))).adapted(at(folder)).keys
    assert keys[0].shape == ("token", 1, 24)
    assert keys[-1].shape == ("token", 96)
