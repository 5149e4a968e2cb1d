"""Partial loading, on fabricated checkpoints in the Hub's layout."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
import transformers
from huggingface_hub import errors
from safetensors.torch import load_file, save_file
from transformers import DynamicCache, Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from lamofcbench.errors import ModelError
from lamofcbench.models.checkpoint import Checkpoint, shortened, up_to_block
from lamofcbench.models.quiet import quiet
from lamofcbench.spec import ModelSpec

LAYERS, SPLIT = 36, 4
FRONT = up_to_block(SPLIT, without=["lm_head", "norm"])
TOKEN = "hf_" + "a" * 34


def spec(folder: str | Path, **fields: Any) -> ModelSpec:
    return ModelSpec(id=str(folder), licence="none", dtype="float32", **fields)


def front_half(checkpoint: Checkpoint) -> Any:
    return checkpoint.build(
        Qwen3Model,
        FRONT,
        dtype=torch.float32,
        config=shortened(checkpoint.config, SPLIT + 1),
        unused=lambda name: name == "norm.weight",
    )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of 36 layers, in parts with an index."""
    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=64,
        tie_word_embeddings=False,
    )
    folder = tmp_path_factory.mktemp("decoder")
    with quiet():
        Qwen3ForCausalLM(config).save_pretrained(folder, max_shard_size="60kB")
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "decoder"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Every safetensors file that is opened, with the tensors that are read from it."""
    seen: dict[str, list[str]] = {}
    genuine = safetensors.safe_open

    class Watched:
        def __init__(self, path: Path, framework: str) -> None:
            self._names = seen.setdefault(Path(path).name, [])
            self._file = genuine(path, framework=framework)

        def __enter__(self) -> Any:
            self._file.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self._file.__exit__(*error)

        def keys(self) -> Any:
            return self._file.keys()

        def get_slice(self, name: str) -> Any:
            return self._file.get_slice(name)

        def get_tensor(self, name: str) -> Any:
            self._names.append(name)
            return self._file.get_tensor(name)

    monkeypatch.setattr(safetensors, "safe_open", Watched)
    return seen


def run(model: Any, layer: int) -> tuple[torch.Tensor, DynamicCache]:
    seen: list[torch.Tensor] = []
    hook = model.layers[layer].register_forward_hook(lambda _m, _a, out: seen.append(out))
    with torch.no_grad():
        cache = model(torch.arange(20)[None], use_cache=True).past_key_values
    hook.remove()
    return seen[0], cache


def test_the_front_half_reads_only_what_it_needs(
    pristine: Path, opened: dict[str, list[str]]
) -> None:
    index = json.loads((pristine / "model.safetensors.index.json").read_text("utf-8"))
    places = index["weight_map"]
    checkpoint = Checkpoint(spec(pristine))
    front_half(checkpoint)
    wanted = {
        name
        for name in places
        if name.startswith("model.embed_tokens")
        or any(name.startswith(f"model.layers.{i}.") for i in range(SPLIT + 1))
    }
    assert {name for names in opened.values() for name in names} == wanted
    assert set(opened) == {places[name] for name in wanted}
    assert len(set(places.values())) > 4 * len(opened)
    read = 4 * checkpoint.parameters_loaded
    total = sum(path.stat().st_size for path in pristine.glob("*.safetensors"))
    assert sum((pristine / file).stat().st_size for file in opened) < total / 4
    assert read < total / 4
    with quiet():
        whole = Qwen3ForCausalLM.from_pretrained(pristine)
    assert checkpoint.parameters_total == sum(p.numel() for p in whole.parameters())


def test_the_front_half_needs_no_other_file_and_equals_the_whole(folder: Path) -> None:
    with quiet():
        whole = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    output, cache = run(whole.model, SPLIT)
    needed = Checkpoint(spec(folder)).files(FRONT)
    revision = Checkpoint(spec(folder)).revision(FRONT)
    for path in folder.glob("*.safetensors"):
        if path.name not in needed:
            path.unlink()
    checkpoint = Checkpoint(spec(folder))
    front = front_half(checkpoint)
    mine, kept = run(front, SPLIT)
    assert torch.equal(mine, output)
    for i in range(SPLIT + 1):
        assert torch.equal(kept.layers[i].keys, cache.layers[i].keys)
        assert torch.equal(kept.layers[i].values, cache.layers[i].values)
    assert torch.equal(front.rotary_emb.inv_freq, whole.model.rotary_emb.inv_freq)
    assert checkpoint.revision(FRONT) == revision
    assert checkpoint.parameters_total == sum(p.numel() for p in whole.parameters())


def test_what_was_left_out_cannot_be_used_unnoticed(pristine: Path) -> None:
    front = front_half(Checkpoint(spec(pristine)))
    with torch.no_grad():
        assert front(torch.arange(20)[None]).last_hidden_state.isnan().all()


def test_the_whole_equals_an_ordinary_load(pristine: Path) -> None:
    with quiet():
        plain = Qwen3ForCausalLM.from_pretrained(pristine, dtype=torch.bfloat16).eval()
    checkpoint = Checkpoint(spec(pristine))
    mine = checkpoint.build(Qwen3ForCausalLM, dtype=torch.bfloat16)
    with torch.no_grad():
        tokens = torch.arange(20)[None]
        assert torch.equal(mine(tokens).logits, plain(tokens).logits)
    assert checkpoint.parameters_loaded == checkpoint.parameters_total
    assert not any(p.requires_grad for p in mine.parameters())


def test_tied_embeddings_need_no_second_copy(tmp_path: Path) -> None:
    config = Qwen3Config(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=32,
        tie_word_embeddings=True,
    )
    with quiet():
        Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    checkpoint = Checkpoint(spec(tmp_path))
    built = checkpoint.build(Qwen3ForCausalLM, dtype=torch.float32)
    assert built.lm_head.weight is built.model.embed_tokens.weight
    assert checkpoint.parameters_loaded == checkpoint.parameters_total
    assert checkpoint.parameters_total == sum(p.numel() for p in built.parameters())


def test_the_total_comes_from_headers_where_the_index_has_none(folder: Path) -> None:
    stated = Checkpoint(spec(folder)).parameters_total
    index = folder / "model.safetensors.index.json"
    found = json.loads(index.read_text("utf-8"))
    index.write_text(json.dumps({"weight_map": found["weight_map"]}), "utf-8")
    assert Checkpoint(spec(folder)).parameters_total == stated


def test_the_revision_follows_the_files_that_are_read(folder: Path) -> None:
    revision = Checkpoint(spec(folder)).revision(FRONT)
    with (folder / "model-00025-of-00025.safetensors").open("ab") as file:
        file.write(b" ")
    assert Checkpoint(spec(folder)).revision(FRONT) == revision
    config = folder / "config.json"
    config.write_text(config.read_text("utf-8") + " ", "utf-8")
    assert Checkpoint(spec(folder)).revision(FRONT) != revision


def test_the_revision_reads_no_tensor(pristine: Path, opened: dict[str, list[str]]) -> None:
    Checkpoint(spec(pristine)).revision(FRONT)
    assert opened == {}


def test_names_are_matched_whole() -> None:
    wanted = up_to_block(1, without=["norm"])
    assert wanted("model.layers.1.mlp.weight")
    assert not wanted("model.layers.19.mlp.weight")
    assert not wanted("norm.weight")
    assert not wanted("model.norm.weight")
    assert wanted("model.q_norm.weight")
    assert wanted("model.layers.0.norm.weight")


def test_a_module_of_ones_own_is_filled_exactly(pristine: Path) -> None:
    checkpoint = Checkpoint(spec(pristine))
    with torch.device("meta"):
        layer = torch.nn.Linear(3, 2)
    tensors = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    checkpoint.assign(layer, tensors)
    assert torch.equal(layer(torch.ones(3)), torch.full((2,), 3.0))
    for broken in (
        {"weight": tensors["weight"]},
        {**tensors, "scale": torch.ones(1)},
        {**tensors, "bias": torch.zeros(3)},
    ):
        with pytest.raises(ModelError, match=r"such as (bias|scale)"):
            checkpoint.assign(layer, broken)


def edit(file: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        found = json.loads((folder / file).read_text("utf-8"))
        change(found)
        (folder / file).write_text(json.dumps(found), "utf-8")

    return damage


def first_part(folder: Path) -> Path:
    return folder / Checkpoint(spec(folder)).files(FRONT)[0]


def cut_short(folder: Path) -> None:
    part = first_part(folder)
    part.write_bytes(part.read_bytes()[:-100])


def without_a_tensor(folder: Path) -> None:
    part = first_part(folder)
    tensors = load_file(part)
    tensors.popitem()
    save_file(tensors, part)


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "cut short"),
        (lambda folder: first_part(folder).write_bytes(b"\xff" * 64), "damaged"),
        (lambda folder: first_part(folder).unlink(), "has no model-0"),
        (without_a_tensor, "damaged"),
        (edit(INDEX, lambda index: index.pop("weight_map")), "names no safetensors"),
        (
            edit(INDEX, lambda index: index["weight_map"].update({"x": "../x.safetensors"})),
            "names no safetensors",
        ),
        (
            edit(INDEX, lambda index: index["weight_map"].pop("model.layers.4.mlp.up_proj.weight")),
            r"missing tensors, such as layers\.4\.mlp\.up_proj\.weight",
        ),
        (lambda folder: (folder / INDEX).write_text("{"), "cannot be read"),
        (lambda folder: (folder / INDEX).unlink(), "pickled weights are not read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no object"),
        (edit("config.json", lambda c: c.update(hidden_size=64)), "cannot be loaded|fit"),
        (edit("config.json", lambda c: c.update(hidden_size="wide")), "cannot be loaded"),
        (edit("config.json", lambda c: c.update(attention_bias=True)), "missing tensors"),
    ],
)
def test_a_broken_checkpoint_is_refused(
    folder: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        front_half(Checkpoint(spec(folder)))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_wanted_tensor_that_the_model_lacks_is_refused(pristine: Path) -> None:
    checkpoint = Checkpoint(spec(pristine))
    with pytest.raises(ModelError, match=r"unexpected tensors, such as model\.layers\.5"):
        checkpoint.build(
            Qwen3Model,
            up_to_block(SPLIT + 1, without=["lm_head"]),
            dtype=torch.float32,
            config=shortened(checkpoint.config, SPLIT + 1),
        )


def test_another_architecture_is_refused(pristine: Path) -> None:
    with pytest.raises(ModelError, match="is of model type 'qwen3'; needs 'llama'"):
        Checkpoint(spec(pristine)).require_type("llama")


class Hub:
    """Stands in for the Hub: serves a folder, and remembers what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, repo: str, file: str, *, revision: str | None = None) -> str:
        self.asked.append((file, revision))
        if not (self.folder / file).exists():
            raise response_error(errors.RemoteEntryNotFoundError, 404, f"404\nno {file}")
        return str(self.folder / file)


def response_error(kind: Any, status: int, message: str) -> Exception:
    """Make an error of the Hub's client as if a request had failed."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error  # type: ignore[no-any-return]


@pytest.fixture
def anonymous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)


@pytest.mark.usefixtures("anonymous")
def test_only_the_needed_files_come_from_the_hub(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "b" * 40
    snapshot = tmp_path / "snapshots" / commit
    shutil.copytree(pristine, snapshot)
    hub = Hub(snapshot)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    checkpoint = Checkpoint(spec("org/decoder"))
    front_half(checkpoint)
    files = [file for file, _ in hub.asked]
    assert files[:3] == ["config.json", "model.safetensors", INDEX]
    assert set(files[3:]) == set(Checkpoint(spec(pristine)).files(FRONT))
    # Without a pin, the commit of the first file holds for all others.
    assert [revision for _, revision in hub.asked] == [None] + [commit] * (len(files) - 1)
    assert checkpoint.revision(FRONT) == commit
    assert Checkpoint(spec("org/decoder", revision="c" * 40)).revision() == "c" * 40


def gated() -> Exception:
    return response_error(
        errors.GatedRepoError, 401, f"401 Client Error (Request ID: x)\nBearer {TOKEN}"
    )


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (gated(), r"gated.*accept the licence at https://huggingface\.co/org/it.*hf auth login"),
        (response_error(errors.RepositoryNotFoundError, 404, "404"), "no such repository"),
        (response_error(errors.RevisionNotFoundError, 404, "404"), "no revision c{40}"),
        (errors.LocalEntryNotFoundError("offline\nx"), "cannot be reached"),
        (errors.OfflineModeIsEnabled("offline"), "cannot be reached"),
        (ConnectionError("no route"), "no route"),
        (OSError(f"bad header: Bearer {TOKEN}\nx"), r"bad header: Bearer \*\*\*$"),
        (OSError("No space left on device"), "No space left"),
    ],
)
def test_the_hubs_refusals_are_one_line(
    monkeypatch: pytest.MonkeyPatch, token: str | None, error: Exception, message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(ModelError, match=message) as caught:
        Checkpoint(spec("org/it", revision="c" * 40))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("org/it: ")
    assert TOKEN not in str(caught.value)


@pytest.mark.usefixtures("anonymous")
def test_a_gated_model_may_hide_from_those_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise response_error(errors.RepositoryNotFoundError, 401, "401")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(ModelError, match=r"accept the licence .* set HF_TOKEN"):
        Checkpoint(spec("org/it", gated=True))


def test_a_name_that_is_neither_folder_nor_id_is_refused() -> None:
    with pytest.raises(ModelError, match="no such folder"):
        Checkpoint(spec("a/b/c"))


def test_loading_is_silent(pristine: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers.utils.logging.enable_progress_bar()
    front_half(Checkpoint(spec(pristine)))
    assert capfd.readouterr() == ("", "")
