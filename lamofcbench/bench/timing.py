"""How long a codec takes, how much memory it needs, and what that makes of a link's latency.

One sample is timed: the median of `REPEATS` runs after one that warms up. Peak memory is that of
coding the sample's largest tensor, as the kernel counts resident pages.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from lamofcbench.bench.rates import Held
from lamofcbench.bitstream import read_bitstream
from lamofcbench.codecs.base import Codec

__all__ = ["LINKS", "TIME_COLUMNS", "latency", "median_seconds", "time_codec"]

REPEATS = 7
LINKS = (10, 100, 1000)
"""Mbit/s."""
TIME_COLUMNS = (
    *("encode_seconds", "decode_seconds", "encode_ns_per_element", "decode_ns_per_element"),
    *("encode_peak_bytes", "sample_bytes", "device", "threads", "machine"),
    *("front_seconds", "back_seconds"),
    *(f"link_{rate}" for rate in LINKS),
    *(f"latency_{rate}" for rate in LINKS),
)
"""What a timed row has besides the others."""
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def median_seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Median wall time of `REPEATS` runs after a warm-up, the device idle before and after.

    Args:
        work: what to time.
        device: where it runs.
    """

    def settle() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    work()
    seconds = []
    for _ in range(REPEATS):
        settle()
        began = time.perf_counter()
        work()
        settle()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _resident(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{_STATUS} has no {field}")


def peak_bytes(work: Callable[[], object]) -> int | None:
    """By how much memory rises while something runs; None where the kernel doesn't tell."""
    try:
        _RESET.write_text("5")  # sets the high-water mark back to what is resident now
        before = _resident("VmRSS")
        work()
        return max(_resident("VmHWM") - before, 0)
    except OSError:
        return None


def time_codec(
    codec: Codec, features: Mapping[str, torch.Tensor], common: Held, device: str = "cpu"
) -> dict[str, Any]:
    """Time a codec on one sample.

    Args:
        codec: which.
        features: a mode's keys.
        common: what is not coded.
        device: where the model runs, for the row; codecs take tensors on the CPU.

    Returns:
        Columns: ``encode_seconds`` and ``decode_seconds`` of the sample, the same in nanoseconds
        per element, ``encode_peak_bytes``, ``sample_bytes`` of the bitstream, and where it ran.
    """
    part = common.without(features)
    elements = sum(tensor.numel() for tensor in part.values())
    data = codec.encode(part, common.axes)
    encode = median_seconds(lambda: codec.encode(part, common.axes))
    decode = median_seconds(lambda: codec.decode(read_bitstream(data)))
    largest = max(part, key=lambda key: part[key].numel())
    return {
        "encode_seconds": encode,
        "decode_seconds": decode,
        "encode_ns_per_element": 1e9 * encode / elements,
        "decode_ns_per_element": 1e9 * decode / elements,
        "encode_peak_bytes": peak_bytes(
            lambda: codec.encode({largest: part[largest]}, common.axes)
        ),
        "sample_bytes": len(data),
        "device": device,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


def latency(columns: Mapping[str, Any], front: float | None, back: float) -> dict[str, Any]:
    """Seconds that a link takes, and from input to answer.

    Args:
        columns: of `time_codec`.
        front: seconds of the front half; None where there are no inputs to run it on.
        back: seconds of the back half.

    Returns:
        ``front_seconds`` and ``back_seconds``; for links of B Mbit/s, ``link_<B>``, which is
        encoding, sending and decoding, and ``latency_<B>``, which is that between both halves, or
        None without ``front``.
    """
    coding = columns["encode_seconds"] + columns["decode_seconds"]
    bits = 8 * columns["sample_bytes"]
    links = {rate: coding + bits / (rate * 1e6) for rate in LINKS}
    return {
        "front_seconds": front,
        "back_seconds": back,
        **{f"link_{rate}": seconds for rate, seconds in links.items()},
        **{
            f"latency_{rate}": None if front is None else front + seconds + back
            for rate, seconds in links.items()
        },
    }
