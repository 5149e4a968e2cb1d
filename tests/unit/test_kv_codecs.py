"""What defines each codec of caches."""

import numpy as np
import pytest
import torch

from lamofcbench.bitstream import read_bitstream
from lamofcbench.codecs import decode_sample, parse_codec
from lamofcbench.codecs.tables import MOST_SYMBOL, Tables
from lamofcbench.errors import BitstreamError, SampleError
from lamofcbench.quant.rotary import find_base, rotate
from lamofcbench.quant.water import fill_water

CACHE = ("head", "token", "dim")
AXES = {"layer.0.k_cache": CACHE, "layer.0.v_cache": CACHE, "layer.0.output": ("token", "dim")}
K, V, OUTPUT = AXES


def caches(tokens: int = 96, seed: int = 0) -> dict[str, torch.Tensor]:
    """Keys with channels of very different ranges, and the same values by token."""
    random = torch.Generator().manual_seed(seed)
    scales = 2.0 ** torch.arange(-4, 4).float()
    return {
        K: torch.randn(4, tokens, 8, generator=random) * scales,
        V: torch.randn(4, tokens, 8, generator=random)
        * 2.0 ** torch.randint(-4, 4, (1, tokens, 1), generator=random),
        OUTPUT: torch.randn(tokens, 16, generator=random),
    }


def decoded(spec: str, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return decode_sample(parse_codec(spec).encode(given, AXES))


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(((one - other) ** 2 / other.var()).mean())


def test_kivi_quantises_keys_by_channel_and_values_by_token() -> None:
    given = caches()
    found = decoded("kivi:bits=4,window=0", given)
    for channel in range(8):
        assert error(found[K][..., channel], given[K][..., channel]) < 0.02
    for token in range(96):
        assert error(found[V][:, token], given[V][:, token]) < 0.02
    # A group's bounds are values of it, so that both come back.
    group = given[K][1, 32:64, 5]
    assert {float(group.min()), float(group.max())} <= set(found[K][1, 32:64, 5].tolist())
    swapped = {K: given[V], V: given[K], OUTPUT: given[OUTPUT]}
    wrong = decoded("kivi:bits=4,window=0", swapped)
    assert error(wrong[V][..., 0], given[K][..., 0]) > 1


@pytest.mark.parametrize("tokens", [20, 64, 70, 96])
def test_kivi_keeps_the_window_as_it_is(tokens: int) -> None:
    given = caches(tokens)
    found = decoded("kivi:bits=2,group=8,window=32", given)
    kept = tokens % 32
    assert torch.equal(found[K][:, tokens - kept :], given[K][:, tokens - kept :])
    assert torch.equal(found[V][:, -32:], given[V][:, -32:])
    if tokens > 32:
        assert not torch.equal(found[K][:, : tokens - kept], given[K][:, : tokens - kept])
        assert not torch.equal(found[V][:, : tokens - 32], given[V][:, : tokens - 32])


def test_kivi_counts_its_bounds() -> None:
    given = {K: caches()[K].bfloat16()}
    data = parse_codec("kivi:bits=1,window=0").encode(given, AXES)
    # Two bounds of 2 bytes for each of 32 channels and 3 groups.
    assert len(read_bitstream(data).keys[K].payload) > 32 * 3 * 4
    with pytest.raises(SampleError, match="multiple of group=32"):
        parse_codec("kivi:window=40")


@pytest.mark.parametrize("base", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("start", [0, 7])
def test_the_base_of_rotation_is_found(base: float, start: int) -> None:
    random = np.random.default_rng(0)
    centre = random.normal(size=64) * 3
    samples = []
    for _ in range(4):
        rows = centre + random.normal(size=(start + 60, 64)) * 0.5
        samples.append(rotate(rows, 32, base)[start:])
    assert find_base(samples, 32) == base
    assert np.allclose(rotate(rotate(samples[0], 32, base), 32, base, undo=True), samples[0])


def rotated(seed: int, tokens: int = 80) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(99).normal(size=(1, 32)) * 4
    keys = rotate(centre + random.normal(size=(tokens, 32)), 16, 1e4)
    keys[random.integers(0, tokens), random.integers(0, 32)] = 300
    values = random.normal(size=(tokens, 100))
    values[np.arange(tokens), random.integers(0, 100, tokens)] = 500
    return {
        K: torch.from_numpy(keys.reshape(tokens, 2, 16).transpose(1, 0, 2)).float(),
        V: torch.from_numpy(values[None]).float(),
    }


def test_kvquant_undoes_the_rotation_and_keeps_outliers() -> None:
    codec = parse_codec("kvquant:bits=3")
    artefact = codec.fit([rotated(seed) for seed in range(6)], AXES)
    assert float(artefact.tensors[f"{K}/base"][0]) == 1e4
    given = rotated(7)
    found = decode_sample(parse_codec("kvquant:bits=3", artefact).encode(given, AXES), artefact)
    plain = decoded("channel:bits=3", given)
    large = given[K].abs() < 100
    assert error(found[K][large], given[K][large]) < 0.5 * error(plain[K][large], given[K][large])
    outliers = given[V] == 500
    assert torch.equal(found[V][outliers], given[V][outliers])
    assert ((found[V] - given[V])[~outliers] ** 2).mean() < 0.05
    with pytest.raises(SampleError, match="fitted with bits=3, not bits=4"):
        parse_codec("kvquant:bits=4", artefact)


def drifting(seed: int, tokens: int = 60) -> dict[str, torch.Tensor]:
    """Caches of six layers whose tokens resemble those before them."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(6, tokens, 32)) * 2.0 ** np.arange(-8, 24, 1)[None, None] / 2**6
    walk = torch.from_numpy(steps.cumsum(1)).float()
    return {f"layer.{n}.v_cache": walk[n].reshape(tokens, 2, 16).transpose(0, 1) for n in range(6)}


def test_cachegen_is_finer_in_first_layers_and_needs_few_bits_for_deltas() -> None:
    axes = {f"layer.{n}.v_cache": CACHE for n in range(6)}
    artefact = parse_codec("cachegen:bin=0.5").fit([drifting(n) for n in range(8)], axes)
    given = drifting(9)
    data = parse_codec("cachegen:bin=0.5", artefact).encode(given, axes)
    found = decode_sample(data, artefact)
    errors = [error(found[key], given[key]) for key in given]
    assert max(errors[:2]) < min(errors[2:4])
    assert max(errors[2:4]) < min(errors[4:])
    sizes = [len(part.payload) for part in read_bitstream(data).keys.values()]
    assert sizes[0] > sizes[3] > sizes[5]
    coarse = parse_codec("channel:bits=8").encode(given, axes)
    assert len(data) < 0.6 * len(coarse)
    # Anchors, every tenth token, have 8 bits between the bounds of calibration.
    for key, tensor in given.items():
        step = artefact.tensors[f"{key}/step"].reshape(2, 1, 16)
        gap = (found[key] - tensor)[:, ::10].abs()
        assert (gap <= torch.from_numpy(step) * 0.501).all()


def test_tables_give_back_symbols_beyond_them() -> None:
    random = np.random.default_rng(0)
    symbols = np.rint(random.normal(size=(50, 3)) * [2, 400, 0]).astype(np.int64)
    tables = Tables.fit(symbols, 15)
    assert tables.shifts.tolist()[0] == 0 < tables.shifts[1]
    symbols[3] = [10**9, -(10**9), MOST_SYMBOL]
    assert np.array_equal(tables.decode(tables.encode(symbols), 50), symbols)
    assert np.array_equal(tables.decode(tables.encode(symbols[:0]), 0), symbols[:0])
    coded = tables.encode(symbols)
    for broken in (coded[:2], coded[:-3], coded + b"\0" * 400):
        with pytest.raises(BitstreamError):
            tables.decode(broken, 50)


def test_water_leaves_out_what_is_below_it() -> None:
    variances = np.array([16.0, 4.0, 1.0, 1e-6, 0.0])
    water = fill_water(variances, 0.5)
    # 2.5 bits for two components: (4 - log2 w + 2 - log2 w) / 2, the third below the water.
    assert water == pytest.approx(2**0.5)
    assert fill_water(np.zeros(4), 2) == 0


def low_rank(seed: int, tokens: int = 60) -> dict[str, torch.Tensor]:
    """Heads that all follow three directions, turned by a rotation."""
    random = np.random.default_rng(seed)
    directions = np.random.default_rng(50).normal(size=(3, 64))
    keys = random.normal(size=(tokens, 3)) @ directions + 5 * directions[0]
    keys += random.normal(size=keys.shape) * 0.02
    keys = rotate(keys, 16, 1e6)
    return {K: torch.from_numpy(keys.reshape(tokens, 4, 16).transpose(1, 0, 2).copy()).float()}


def test_kvtc_finds_components_over_all_heads() -> None:
    codec = parse_codec("kvtc:rate=0.3,sink=2,window=3")
    artefact = codec.fit([low_rank(seed) for seed in range(6)], AXES)
    assert artefact.tensors[f"{K}/rotation"].tolist() == [1e6, 16]
    assert artefact.tensors[f"{K}/basis"].shape == (64, 3)
    given = low_rank(9)
    data = parse_codec("kvtc:rate=0.3,sink=2,window=3", artefact).encode(given, AXES)
    found = decode_sample(data, artefact)
    body = slice(2, -3)
    assert error(found[K][:, body], given[K][:, body]) < 0.01
    wide = (given[K].amax((0, 2)) - given[K].amin((0, 2))) / 255
    for token in (0, 1, 57, 58, 59):
        gap = (found[K] - given[K])[:, token].abs().max()
        assert float(gap) <= 0.51 * float(wide[token])
    whole = parse_codec("kvtc:rate=3,sink=2,window=3")
    finer = whole.fit([low_rank(seed) for seed in range(6)], AXES)
    assert finer.tensors[f"{K}/step"] < artefact.tensors[f"{K}/step"]
    assert finer.tensors[f"{K}/basis"].shape == (64, 64)
