"""What every codec must do; a package's own codecs may be put through this by their names."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lamofcbench.bitstream import Bitstream, Coded, read_bitstream, write_bitstream
from lamofcbench.codecs import codecs, decode_sample, parse_codec
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec
from lamofcbench.codecs.learned.base import Learned
from lamofcbench.errors import BitstreamError, SampleError, UnknownNameError
from tests.learned import need_compressai

CACHE = ("head", "token", "dim")
AXES = {
    **{"layer.0.k_cache": CACHE, "layer.0.v_cache": CACHE},
    **{"output": ("token", "dim"), "vector": ("dim",)},
}
NAMES = list(codecs())
LOSSLESS = [name for name in NAMES if parse_codec(name).lossless]
LOSSY = [name for name in NAMES if name not in LOSSLESS]
TRAINED = [name for name in NAMES if parse_codec(name).trained]
SMALL = dict.fromkeys(TRAINED, ":n=4,m=6")
"""Networks are tested small and untrained: what they decode to has the right shape, no more."""
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


@pytest.fixture(autouse=True)
def outside_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for an encoder and a decoder that no package brings: they copy."""
    for variable in ("LAMOFCBENCH_VVENC", "LAMOFCBENCH_VVDEC"):
        monkeypatch.setenv(variable, str(Path(__file__).parents[1] / "copy.sh"))


def features(dtype: torch.dtype, tokens: int = 20) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    output = torch.randn(tokens, 16, generator=random)
    output[:, 3] += 40
    return {
        "layer.0.k_cache": torch.randn(2, tokens, 8, generator=random).to(dtype),
        "layer.0.v_cache": torch.randn(2, tokens, 8, generator=random).to(dtype),
        "output": output.to(dtype),
        "vector": torch.randn(24, generator=random).to(dtype),
    }


def ready(name: str, given: dict[str, torch.Tensor]) -> tuple[Codec, Artefact | None]:
    """A codec, fitted to what it is to code if it must be."""
    codec = parse_codec(name + SMALL.get(name, ""))
    if not codec.fitted:
        return codec, None
    if isinstance(codec, Learned):
        need_compressai()
        codec.weights = codec.untrained()
    artefact = codec.fit([given], AXES)
    return parse_codec(name, artefact), artefact


def there_and_back(name: str, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    codec, artefact = ready(name, given)
    return decode_sample(codec.encode(given, AXES), artefact)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_alone_give_shapes_dtypes_and_nearly_the_values(
    name: str, dtype: torch.dtype
) -> None:
    given = features(dtype)
    codec, artefact = ready(name, given)
    data = codec.encode(given, AXES)
    decoded = decode_sample(data, artefact)
    assert list(decoded) == list(given)
    for key, tensor in given.items():
        assert (decoded[key].shape, decoded[key].dtype) == (tensor.shape, dtype)
        error = (decoded[key].float() - tensor.float()).square().mean()
        assert name in TRAINED or error <= 0.01 * tensor.float().square().mean()
    assert ready(name, given)[0].encode(given, AXES) == data


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_lossless_keeps_every_bit(name: str, dtype: torch.dtype) -> None:
    words = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    odd = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan")]).to(dtype)
    nan = torch.tensor([-1, -2], dtype=words).view(dtype)
    given = {**features(dtype), "vector": torch.cat([odd, nan])}
    decoded = there_and_back(name, given)
    for key, tensor in given.items():
        assert same_bits(decoded[key], tensor), key


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_lossy_refuses_what_is_not_finite(name: str, bad: float) -> None:
    given = features(torch.float32)
    codec, _ = ready(name, given)
    given["output"][2, 3] = bad
    with pytest.raises(SampleError, match=r"output: .* not finite"):
        codec.encode(given, AXES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_and_constant_tensors(name: str, dtype: torch.dtype) -> None:
    given = {
        "layer.0.k_cache": torch.zeros(2, 0, 8, dtype=dtype),
        "output": torch.full((1, 1), 0.3, dtype=dtype),
        "vector": torch.full((7,), -2.0, dtype=dtype),
    }
    decoded = there_and_back(name, given)
    for key, tensor in given.items():
        assert decoded[key].shape == tensor.shape
        assert torch.allclose(decoded[key].float(), tensor.float(), rtol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_large_values_do_not_overflow(name: str) -> None:
    given = {"output": torch.tensor([[65504.0, -65504.0], [1.0, 0.0]], dtype=torch.float16)}
    decoded = there_and_back(name, given)
    assert decoded["output"].isfinite().all()
    if name not in TRAINED:
        assert decoded["output"][0].tolist() == pytest.approx([65504, -65504], rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_payloads_give_an_error_or_the_right_shape(name: str) -> None:
    given = features(torch.bfloat16)
    codec, artefact = ready(name, given)
    stream = read_bitstream(codec.encode(given, AXES))
    part = stream.keys["output"]
    for payload in (b"", part.payload[: len(part.payload) // 2], b"\xff" * len(part.payload)):
        broken = Coded(payload, part.shape, part.dtype, part.axes)
        data = write_bitstream(
            Bitstream(stream.codec, stream.parameters, {"output": broken}, stream.artefact)
        )
        try:
            decoded = decode_sample(data, artefact)
        except BitstreamError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert decoded["output"].shape == part.shape


@pytest.mark.parametrize("name", NAMES)
def test_a_claimed_size_is_checked_before_it_is_believed(name: str) -> None:
    """A payload of ten bytes can't be made to fill gigabytes."""
    part = Coded(struct.pack("<10s", b""), (1 << 10, 1 << 12), "float32", ("token", "dim"))
    codec, artefact = ready(name, features(torch.float32))
    stream = read_bitstream(codec.encode(features(torch.float32), AXES))
    data = write_bitstream(
        Bitstream(stream.codec, stream.parameters, {"output": part}, stream.artefact)
    )
    with pytest.raises(BitstreamError):
        decode_sample(data, artefact)


@pytest.mark.parametrize("name", [name for name in NAMES if parse_codec(name).fitted])
def test_an_artefact_must_be_the_right_one(name: str, tmp_path: Path) -> None:
    given = features(torch.float32)
    codec, artefact = ready(name, given)
    assert artefact is not None
    data = codec.encode(given, AXES)
    artefact.save(tmp_path / "a.safetensors")
    again = Artefact.load(tmp_path / "a.safetensors")
    assert again.sha256 == artefact.sha256
    assert torch.equal(
        decode_sample(data, again)["output"], decode_sample(data, artefact)["output"]
    )
    with pytest.raises(BitstreamError, match="needs the artefact of sha256"):
        decode_sample(data)
    other = ready(name, {key: tensor * 2 for key, tensor in given.items()})[1]
    with pytest.raises(BitstreamError, match="needs another artefact"):
        decode_sample(data, other)
    damaged = bytearray(artefact.data)
    damaged[-1] ^= 1
    (tmp_path / "b.safetensors").write_bytes(bytes(damaged))
    with pytest.raises(BitstreamError, match="needs another artefact"):
        decode_sample(data, Artefact.load(tmp_path / "b.safetensors"))
    (tmp_path / "c.safetensors").write_bytes(artefact.data[:20])
    with pytest.raises(BitstreamError, match="no artefact"):
        Artefact.load(tmp_path / "c.safetensors")


def test_names_and_parameters_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'uniform'"):
        parse_codec("uniforn")
    for text in ("channel:bits=0", "channel:bits=x", "channel:bit=4", "zstd:level=3", "token:4"):
        with pytest.raises(SampleError):
            parse_codec(text)


def test_a_third_partys_codec_needs_no_change_here(tmp_path: Path) -> None:
    """A package on the path adds a codec by an entry point, and this suite passes it."""
    (tmp_path / "toycodec.py").write_text(
        "from lamofcbench.codecs.raw import Raw\n\n\n"
        "class Reversed(Raw):\n"
        "    name = 'reversed'\n\n"
        "    def _encode(self, array):\n"
        "        return super()._encode(array)[::-1]\n\n"
        "    def _decode(self, payload, dtype, count):\n"
        "        return payload[::-1]\n",
        "utf-8",
    )
    info = tmp_path / "toycodec-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toycodec\nVersion: 1.0\n", "utf-8")
    entry = "[lamofcbench.codecs]\nreversed = toycodec:Reversed\n"
    (info / "entry_points.txt").write_text(entry, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", __file__, "-k", "reversed"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(".") > 10
