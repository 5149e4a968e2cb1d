"""An archive's samples as the reference's files."""

from collections.abc import Callable
from pathlib import Path

from lamofcbench.errors import SampleError
from lamofcbench.interop.names import naming
from lamofcbench.interop.output import Samples, claim, finish, said_of
from lamofcbench.interop.structures import raw_skeleton, to_skeleton
from lamofcbench.interop.zst import write_zst
from lamofcbench.spec import load_scenario

__all__ = ["export_reference"]


def export_reference(samples: Samples, out: Path, step: Callable[[], object] = lambda: None) -> int:
    """Write one ``.zst`` file a sample, named and nested as in the reference's release.

    Dtypes are those that were captured: states that the reference casts to float16 are not cast.

    Args:
        samples: with all of their keys.
        out: folder for them; see `claim`.
        step: called after each sample.

    Returns:
        How many files there are.

    Raises:
        SourceError: the reference has no such files.
        SampleError: keys were left out, or ``out`` holds something else.
    """
    scenario = load_scenario(samples.manifest.config)
    keys = list(samples.manifest.keys)
    names, skeleton = naming(scenario, keys), raw_skeleton(scenario.family, scenario.task, keys)
    if set(samples.keys) != set(keys):
        raise SampleError("the reference's files hold all tensors of a sample: leave out --tensors")
    said = said_of(samples, "reference")
    claim(out, said)
    for item in samples:
        write_zst(out / names.path(item["id"]), to_skeleton(skeleton, item["features"]))
        step()
    finish(out, said)
    return len(samples)
