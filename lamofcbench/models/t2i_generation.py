"""What a profile of the ``t2i`` family declares about how images are made."""

from dataclasses import dataclass
from typing import Any, Self

from lamofcbench.errors import DeclarationError
from lamofcbench.spec import ProfileSpec

__all__ = ["Generation"]


@dataclass(frozen=True)
class Generation:
    """How an image is made, as a profile's ``preprocess`` declares it.

    Attributes:
        size: pixels of both sides of the control image and of the image made.
        canny_low: lower threshold of the control image's edges.
        canny_high: upper threshold.
        control_gain: what the autoencoder sees is edges of 0 and 1, times this ...
        control_offset: ... plus this: the range that the ControlNet was trained on.
        steps: of denoising.
        guidance: scale of classifier-free guidance, above 1.
        control_scale: of what the ControlNet adds.
        tokens: to which each prompt is cut or padded, in every text encoder.
        seed: of the noise; see `T2i`.
        controlnet: folder or Hub id of the ControlNet, if it is not within the checkpoint.
        controlnet_revision: the Hub commit to take it at.
    """

    size: int
    canny_low: int
    canny_high: int
    control_gain: float
    control_offset: float
    steps: int
    guidance: float
    control_scale: float
    tokens: int
    seed: int
    controlnet: str = ""
    controlnet_revision: str = ""

    @classmethod
    def declared(cls, profile: ProfileSpec) -> Self:
        """Read what a profile declares.

        Raises:
            DeclarationError: an entry is missing, unknown, of another type or out of range.
        """
        entries = dict(profile.preprocess)
        kinds: dict[str, Any] = {name: kind for name, kind in cls.__annotations__.items()}
        needed = set(kinds) - {"controlnet", "controlnet_revision"}
        if not needed <= set(entries) <= set(kinds):
            fault = ", ".join(sorted(needed - set(entries)) or sorted(set(entries) - set(kinds)))
            raise DeclarationError(
                f"preprocess: {fault}: missing or unknown; needs {', '.join(sorted(needed))}"
            )
        for name, value in entries.items():
            kind = (int, float) if kinds[name] is float else kinds[name]
            if isinstance(value, bool) or not isinstance(value, kind):
                raise DeclarationError(
                    f"preprocess: {name} = {value!r}: not {kinds[name].__name__}"
                )
        made = cls(**{name: kinds[name](value) for name, value in entries.items()})
        if not (made.size > 0 and made.steps > 0 and made.tokens > 0 and made.seed >= 0):
            raise DeclarationError(
                "preprocess: size, steps and tokens must be above 0, seed not below"
            )
        if not made.guidance > 1:
            raise DeclarationError(
                "preprocess: guidance must be above 1: below it nothing is negative"
            )
        if not 0 < made.canny_low <= made.canny_high:
            raise DeclarationError("preprocess: needs 0 < canny_low <= canny_high")
        return made
