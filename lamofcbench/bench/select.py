"""Which configs and modes a command means."""

from collections.abc import Sequence

from lamofcbench.archive import find_store, list_stores, resolve_archive
from lamofcbench.store.state import load_state

__all__ = ["configs_and_modes"]


def configs_and_modes(
    configs: Sequence[str], mode: str | None, archive: str, profile: str | None
) -> list[tuple[str, str | None]]:
    """Pair configs with modes.

    Args:
        configs: names, or ``all`` alone for those that the archive has.
        mode: one mode's name, ``all``, or none for each config's first.
        archive: as for `resolve_archive`.
        profile: as for `find_store`.

    Raises:
        ArchiveNotFoundError, UnknownNameError, IntegrityError: a config isn't there, or is damaged.
    """
    folder = resolve_archive(archive)
    names = list(list_stores(folder)) if list(configs) == ["all"] else list(configs)
    pairs: list[tuple[str, str | None]] = []
    for name in names:
        modes: list[str | None] = [mode]
        if mode == "all":
            declaration = load_state(find_store(folder, name, profile)).draft.declaration
            modes = list(declaration.modes)
        pairs += [(name, one) for one in modes]
    return pairs
