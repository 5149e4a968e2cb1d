"""Stores whose features come from files, not from a model that ran here.

Their manifest says so among the preprocessing: where the features came from, the hash of the files,
and what a store of our own has that the files lack. What they lack is not declared at all, so
nothing reads as if it were there.
"""

from lamofcbench.errors import SampleError
from lamofcbench.spec import ProfileSpec

__all__ = ["FILES_SHA256", "IMPORTED", "MISSING", "REVISION", "check_scorable", "missing_parts"]

IMPORTED = "imported"
FILES_SHA256 = "files_sha256"
MISSING = "missing"
REVISION = "the model's revision"


def missing_parts(profile: ProfileSpec) -> str:
    """What scoring needs and an imported store lacks; nothing for other stores."""
    return str(profile.preprocess.get(MISSING, ""))


def check_scorable(config: str, profile: ProfileSpec) -> None:
    """Refuse to score an imported store.

    Raises:
        SampleError: it is one; the message says what is missing.
    """
    if missing := missing_parts(profile):
        raise SampleError(
            f"{config}: imported from {profile.preprocess.get(IMPORTED)}, which lack {missing}: "
            "scoring and timing need these. `lamofcbench bench` measures rates and distortions"
        )
