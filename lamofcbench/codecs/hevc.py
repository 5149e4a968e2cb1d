"""HEVC intra, 4:0:0 with 10 bits, by PyAV and x265.

Sullivan et al., "Overview of the High Efficiency Video Coding (HEVC) Standard" (IEEE TCSVT 2012).
The stream carries its parameter sets: FFmpeg decodes it with nothing else.
"""

from fractions import Fraction

import numpy as np

from lamofcbench.codecs.video import Picture, VideoCodec
from lamofcbench.errors import BitstreamError, MissingDependencyError, SampleError
from lamofcbench.optional import require

__all__ = ["Hevc"]

PRESET = "medium"
X265 = {
    # One intra picture at one QP: nothing that adapts to what an eye would see.
    **{"keyint": "1", "ipratio": "1", "aq-mode": "0", "cutree": "0", "psy-rd": "0"},
    **{"psy-rdoq": "0", "rc-lookahead": "0", "bframes": "0"},
    # What decoding needs, and no more.
    **{"repeat-headers": "1", "info": "0", "aud": "0", "hrd": "0"},
    # The same bytes on every machine.
    **{"pools": "none", "frame-threads": "1", "wpp": "0"},
    # States are as narrow as 16 and as long as 8192, which no level foresees.
    **{"allow-non-conformance": "1", "log-level": "none"},
}


class Hevc(VideoCodec):
    """``qp`` 0 to 51, 8 by default; see `VideoCodec` and the fixed parameters of x265 above."""

    name = "hevc"
    least = 16

    def encode_picture(self, picture: Picture) -> bytes:
        """See `VideoCodec.encode_picture`."""
        av = require("av", "codecs")
        if "libx265" not in av.codecs_available:
            raise MissingDependencyError("this build of PyAV has no libx265: pip install av")
        coder = av.CodecContext.create("libx265", "w")
        coder.height, coder.width = picture.shape
        coder.pix_fmt, coder.time_base, coder.framerate = "gray10le", Fraction(1), 1
        fixed = ":".join(f"{name}={value}" for name, value in {"qp": self.qp, **X265}.items())
        coder.options = {"preset": PRESET, "x265-params": fixed}
        frame = av.VideoFrame.from_ndarray(picture, format="gray10le")
        frame.pts = 0
        try:
            packets = [*coder.encode(frame), *coder.encode(None)]
        except av.FFmpegError as error:
            height, width = picture.shape
            raise SampleError(
                f"hevc cannot code a plane of {height} x {width} ({error.strerror}): "
                "try packing=square"
            ) from None
        return b"".join(bytes(packet) for packet in packets)

    def decode_picture(self, payload: bytes, size: tuple[int, int]) -> Picture:
        """See `VideoCodec.decode_picture`."""
        av = require("av", "codecs")
        coder = av.CodecContext.create("hevc", "r")
        coder.thread_count = 1
        try:
            frames = [*coder.decode(av.Packet(payload)), *coder.decode(None)] if payload else []
        except av.FFmpegError as error:
            raise BitstreamError(f"has a picture that does not decode: {error.strerror}") from None
        if len(frames) != 1 or frames[0].format.name != "gray10le":
            raise BitstreamError("has a stream that is not one picture of 10 bits")
        if (frames[0].height, frames[0].width) != size:
            raise BitstreamError("has a picture of another size than its shape")
        return np.asarray(frames[0].to_ndarray(), np.uint16)
