"""What defines each codec of planes."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from lamofcbench.bitstream import Bitstream, Coded, read_bitstream, write_bitstream
from lamofcbench.codecs import decode_sample, parse_codec
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.fitted import even_choice
from lamofcbench.errors import BitstreamError, LamofcError, MissingDependencyError, SampleError

AXES = {"output": ("token", "dim")}
PLANES = ["zfp", "jpeg2000", "jpegxl", "hevc"]


def smooth(rows: int = 96, width: int = 64, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tokens that resemble their neighbours."""
    random = np.random.default_rng(seed)
    waves = np.sin(np.arange(rows)[:, None] / 9 + np.arange(width) / 7)
    values = 40 * waves + random.normal(size=(rows, width))
    return {"output": torch.from_numpy(values).float()}


def fitted(spec: str, given: dict[str, torch.Tensor]) -> Artefact | None:
    codec = parse_codec(spec)
    return codec.fit([given], AXES) if codec.fitted else None


def coded(spec: str, given: dict[str, torch.Tensor]) -> tuple[bytes, torch.Tensor]:
    artefact = fitted(spec, given)
    data = parse_codec(spec, artefact).encode(given, AXES)
    return data, decode_sample(data, artefact)["output"]


@pytest.mark.parametrize("tolerance", [0.001, 0.05, 0.5])
def test_zfp_keeps_within_its_tolerance(tolerance: float) -> None:
    given = smooth()
    _, found = coded(f"zfp:tolerance={tolerance}", given)
    gap = float((found - given["output"]).abs().max() / given["output"].std(correction=0))
    assert tolerance / 50 < gap <= tolerance


@pytest.mark.parametrize("level", [40, 60, 80])
def test_jpeg2000_has_the_quality_that_it_is_asked_for(level: int) -> None:
    given = smooth()
    _, found = coded(f"jpeg2000:level={level}", given)
    span = float(given["output"].max() - given["output"].min())
    psnr = -10 * float((((found - given["output"]) / span) ** 2).mean().log10())
    assert level - 1 < psnr < level + 6


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("zfp:tolerance=", (0.01, 0.1, 1)),
        ("jpeg2000:level=", (70, 50, 30)),
        ("jpegxl:distance=", (0.05, 1, 10)),
        ("hevc:qp=", (4, 22, 40)),
    ],
)
def test_coarser_planes_cost_less_and_keep_less(name: str, values: tuple[float, ...]) -> None:
    given = smooth()
    points = [coded(f"{name}{value}", given) for value in values]
    for (long, fine), (short, coarse) in itertools.pairwise(points):
        assert len(long) > 1.2 * len(short)
        errors = [float((one - given["output"]).square().mean()) for one in (fine, coarse)]
        assert errors[0] < errors[1]


@pytest.mark.parametrize("name", PLANES)
def test_neighbours_that_are_alike_cost_less(name: str) -> None:
    given = smooth()
    order = torch.from_numpy(np.random.default_rng(1).permutation(given["output"].numel()))
    shuffled = {"output": given["output"].flatten()[order].reshape(96, 64)}
    assert len(coded(name, given)[0]) < 0.9 * len(coded(name, shuffled)[0])


@pytest.mark.parametrize("name", PLANES)
@pytest.mark.parametrize("packing", ["usual", "square"])
@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (400, 4), (17, 19)])
def test_planes_of_any_size(name: str, packing: str, shape: tuple[int, int]) -> None:
    given = smooth(*shape)
    _, found = coded(f"{name}:packing={packing}", given)
    assert found.shape == shape
    assert float((found - given["output"]).square().mean()) < 0.5


def test_hevc_clips_to_percentiles_of_calibration() -> None:
    given = smooth(200, 100)
    given["output"][7, 3] = 1e4
    artefact = parse_codec("hevc:clip=0.1").fit([given], AXES)
    low, high = artefact.tensors["output/bounds"]
    values = given["output"].flatten().sort().values
    assert (low, high) == (values[19], values[-20])
    codec = parse_codec("hevc:clip=0.1", artefact)
    found = decode_sample(codec.encode(given, AXES), artefact)["output"]
    assert float(found[7, 3]) <= high
    assert float((found - given["output"]).abs().median()) < 0.2
    whole = fitted("hevc:clip=0", given)
    assert whole is not None
    assert whole.tensors["output/bounds"].tolist() == [float(values[0]), 1e4]
    with pytest.raises(SampleError, match=r"fitted with clip=0.1, not clip=0.2"):
        parse_codec("hevc:clip=0.2", artefact)


@pytest.mark.parametrize("name", PLANES)
def test_altered_streams_never_bring_a_decoder_down(name: str) -> None:
    given = smooth(24, 16)
    artefact = fitted(name, given)
    stream = read_bitstream(parse_codec(name, artefact).encode(given, AXES))
    part = stream.keys["output"]
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(part.payload)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(256)
        cut = bytes(data[: random.integers(1, len(data) + 1)])
        broken = Coded(cut, part.shape, part.dtype, part.axes)
        whole = Bitstream(stream.codec, stream.parameters, {"output": broken}, stream.artefact)
        try:
            found = decode_sample(write_bitstream(whole), artefact)["output"]
        except BitstreamError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert found.shape == part.shape
            assert found.isfinite().all()


def test_vvc_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("LAMOFCBENCH_VVENC", "LAMOFCBENCH_VVDEC"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    given = smooth(8, 8)
    artefact = fitted("vvc", given)
    with pytest.raises(MissingDependencyError, match="LAMOFCBENCH_VVENC or encoder="):
        parse_codec("vvc", artefact).encode(given, AXES)
    with pytest.raises(LamofcError, match="cannot be run"):
        parse_codec(f"vvc:encoder={tmp_path}/none", artefact).encode(given, AXES)


def test_vvc_gives_programs_a_padded_plane_and_no_path_to_the_stream(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = str(Path(__file__).parents[1] / "copy.sh")
    monkeypatch.setenv("LAMOFCBENCH_VVDEC", copy)
    seen = tmp_path / "encoder.sh"
    seen.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexec {copy} "$@"\n', "utf-8")
    seen.chmod(0o755)
    given = smooth(70, 20)
    artefact = fitted("vvc", given)
    data = parse_codec(f"vvc:qp=30,encoder={seen}", artefact).encode(given, AXES)
    said = (tmp_path / "said").read_text("utf-8")
    assert "--size 64x72 --qp 30" in said
    assert "yuv400_10" in said
    stream = read_bitstream(data)
    assert "encoder" not in stream.parameters
    plane = np.frombuffer(stream.keys["output"].payload, "<u2").reshape(72, 64)
    assert plane.max() == 1023
    assert (plane[70:, :20] == plane[69, :20]).all()
    found = decode_sample(data, artefact)["output"]
    low, high = given["output"].min(), given["output"].max()
    assert (found - given["output"]).abs().max() <= 0.51 * (high - low) / 1023


def test_an_even_choice_sees_every_channel() -> None:
    rows = np.arange(64)[None].repeat(1000, 0)
    counts = np.bincount(even_choice(rows, 1000), minlength=64)
    assert counts.min() > 10
