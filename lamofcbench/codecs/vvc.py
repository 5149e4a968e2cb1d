"""VVC intra, 4:0:0 with 10 bits, by an encoder and a decoder outside: vvencapp and vvdecapp.

Bross et al., "Overview of the Versatile Video Coding (VVC) Standard and its Applications" (IEEE
TCSVT 2021). No package brings them: the environment variables ``LAMOFCBENCH_VVENC`` and
``LAMOFCBENCH_VVDEC`` name them, or they are found on the path.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.video import Picture, VideoCodec
from lamofcbench.errors import BitstreamError, MissingDependencyError, SampleError

__all__ = ["Vvc"]

ENCODER = ("LAMOFCBENCH_VVENC", "vvencapp")
DECODER = ("LAMOFCBENCH_VVDEC", "vvdecapp")
FIXED = (
    *("--format", "yuv400_10", "--frames", "1", "--framerate", "1", "--intraperiod", "1"),
    *("--preset", "medium", "--qpa", "0", "--threads", "1"),
)
SECONDS = 3600


class Vvc(VideoCodec):
    """``qp`` 0 to 51, 8 by default; ``encoder``, a program's path; see `VideoCodec`.

    The encoder's path is no parameter of the stream: a decoder is found where it runs.
    """

    name = "vvc"
    least = 64
    multiple = 8
    options = ("qp", "clip", "packing", "encoder")
    _encoder = ""

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        codec = super().create(parameters, artefact)
        codec._encoder = parameters.get("encoder", "")
        return codec

    def encode_picture(self, picture: Picture) -> bytes:
        """See `VideoCodec.encode_picture`."""
        program = self._encoder or _program(*ENCODER, "encoder=")
        height, width = picture.shape
        size, qp = f"{width}x{height}", str(self.qp)
        with tempfile.TemporaryDirectory() as folder:
            plane, coded = Path(folder, "plane.yuv"), Path(folder, "coded.266")
            plane.write_bytes(picture.astype("<u2").tobytes())
            failed = _run(
                [program, "-i", str(plane), "-o", str(coded), "--size", size, "--qp", qp, *FIXED]
            )
            if failed or not coded.exists():
                raise SampleError(f"{program} cannot code a plane of {height} x {width}: {failed}")
            return coded.read_bytes()

    def decode_picture(self, payload: bytes, size: tuple[int, int]) -> Picture:
        """See `VideoCodec.decode_picture`."""
        program = _program(*DECODER)
        count = size[0] * size[1] * 2
        with tempfile.TemporaryDirectory() as folder:
            plane, coded = Path(folder, "plane.yuv"), Path(folder, "coded.266")
            coded.write_bytes(payload)
            failed = _run([program, "-b", str(coded), "-o", str(plane)])
            if failed or not plane.exists():
                raise BitstreamError(f"has a picture that does not decode: {failed}")
            # Some versions write chroma after the luma, though there is none.
            if plane.stat().st_size not in (count, count * 3 // 2):
                raise BitstreamError("has a picture of another size than its shape")
            luma = plane.read_bytes()[:count]
        picture: Picture = np.frombuffer(luma, "<u2").reshape(size).astype(np.uint16)
        return picture


def _program(variable: str, usual: str, parameter: str = "") -> str:
    found = os.environ.get(variable) or shutil.which(usual)
    if not found:
        ways = f"{variable} or {parameter}" if parameter else variable
        raise MissingDependencyError(f"vvc needs {usual}: name it with {ways}")
    return found


def _run(command: list[str]) -> str:
    """Run a program; return what it said last if it failed, else nothing."""
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingDependencyError(f"{command[0]} cannot be run: {error}") from None
    if done.returncode == 0:
        return ""
    said = (done.stderr or done.stdout).decode(errors="replace").split("\n")
    lines = [line.strip() for line in said if line.strip()]
    return lines[-1][:200] if lines else f"exit status {done.returncode}"
