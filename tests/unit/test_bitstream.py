import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamofcbench.bitstream import Bitstream, Coded, read_bitstream, write_bitstream
from lamofcbench.errors import BitstreamError, SampleError

STREAM = Bitstream(
    "toy",
    {"bits": "4", "fit": "own"},
    {
        "layer.4.output": Coded(b"payload", (3, 300), "bfloat16", ("token", "dim")),
        "state": Coded(b"", (0,), "float32", ("dim",)),
    },
    bytes(range(32)),
)
DATA = write_bitstream(STREAM)


def test_what_is_written_is_read() -> None:
    assert read_bitstream(DATA) == STREAM
    # Both keys, their shapes and all else in a few dozen bytes.
    assert len(DATA) - len(b"payload") < 100


def test_every_flipped_bit_and_every_cut_is_found() -> None:
    for place in range(len(DATA)):
        for bit in range(8):
            damaged = bytearray(DATA)
            damaged[place] ^= 1 << bit
            with pytest.raises(BitstreamError):
                read_bitstream(bytes(damaged))
        with pytest.raises(BitstreamError):
            read_bitstream(DATA[:place])
    with pytest.raises(BitstreamError):
        read_bitstream(DATA + b"\0")


def signed(body: bytes) -> bytes:
    """A bitstream whose checksum fits, whatever it says."""
    return body + google_crc32c.value(body).to_bytes(4, "little")


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def test_hostile_headers_are_refused() -> None:
    for shape, payload in [((1 << 20, 1 << 17), b""), ((1 << 15, 1 << 15), bytes(1000))]:
        huge = Bitstream("toy", {}, {"k": Coded(payload, shape, "uint8", ("token", "dim"))})
        with pytest.raises(SampleError, match="more than a decoder believes"):
            write_bitstream(huge)
        small = Coded(payload, (3, 5), "uint8", ("token", "dim"))
        data = write_bitstream(Bitstream("toy", {}, {"k": small}))
        sizes = b"".join(map(varint, shape))
        claimed = data[:-4].replace(
            bytes([3, 5]) + varint(len(payload)), sizes + varint(len(payload)), 1
        )
        assert claimed != data[:-4]
        with pytest.raises(BitstreamError, match="too large"):
            read_bitstream(signed(claimed))
    body = DATA[:-4]
    with pytest.raises(BitstreamError, match="version 9; this reads version 1"):
        read_bitstream(signed(body[:4] + b"\x09" + body[5:]))
    with pytest.raises(BitstreamError, match="too many"):
        read_bitstream(signed(body + b"\0\0"))
    with pytest.raises(BitstreamError, match="cut short"):
        read_bitstream(signed(body[:-3]))
    with pytest.raises(BitstreamError, match="no bitstream"):
        read_bitstream(b"PK" + body)
    twice = STREAM.keys["state"]
    two = write_bitstream(Bitstream("toy", {}, {"a": twice, "b": twice}))
    with pytest.raises(BitstreamError, match="twice"):
        read_bitstream(signed(two[:-4].replace(b"b", b"a")))


@given(st.binary(max_size=200))
def test_noise_is_refused_in_one_line(noise: bytes) -> None:
    with pytest.raises(BitstreamError) as caught:
        read_bitstream(signed(DATA[:5] + noise))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_written_is_said() -> None:
    with pytest.raises(ValueError, match="must not hold"):
        write_bitstream(Bitstream("toy", {"a": "b;c"}, {}))
