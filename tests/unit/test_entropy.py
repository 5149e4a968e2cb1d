import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamofcbench.codecs.entropy import decode_levels, encode_levels
from lamofcbench.errors import BitstreamError


@given(st.integers(1, 16), st.integers(0, 300), st.integers(0, 2**32 - 1), st.floats(0.01, 4))
def test_levels_come_back(bits: int, count: int, seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    middle, width = 2 ** (bits - 1), spread * 2 ** (bits - 1)
    levels = np.clip(random.normal(middle, width, count), 0, 2**bits - 1).astype(np.int32)
    payload = encode_levels(levels, bits)
    assert np.array_equal(decode_levels(payload, bits, count), levels)
    # Never much more than plain bits.
    assert len(payload) <= (count * bits + 7) // 8 + 1


def test_skewed_levels_cost_little_more_than_their_entropy() -> None:
    random = np.random.default_rng(0)
    levels = np.clip(random.normal(128, 6, 50_000), 0, 255).astype(np.int32)
    shares = np.bincount(levels) / len(levels)
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum() * len(levels) / 8
    assert entropy < len(encode_levels(levels, 8)) < 1.01 * entropy + 150
    assert len(encode_levels(np.full(50_000, 7), 8)) < 10


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x02abc", b"\x00" + b"1" * 9, b"\x01", b"\x01\x05", b"\x01\x00\x00", b"\x01\x00\xff"],
)
def test_malformed_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(BitstreamError):
        decode_levels(payload, 8, 8)


def test_damage_never_gives_another_number_of_levels() -> None:
    levels = np.random.default_rng(0).binomial(255, 0.5, 500)
    payload = bytearray(encode_levels(levels, 8))
    for place in range(len(payload)):
        damaged = bytes(payload[:place]) + bytes([payload[place] ^ 0x41]) + payload[place + 1 :]
        with contextlib.suppress(BitstreamError):
            assert decode_levels(bytes(damaged), 8, 500).shape == (500,)
