"""Small networks for tests."""

import pytest

from lamofcbench.codecs.learned.library import library
from lamofcbench.errors import MissingDependencyError


def need_compressai() -> None:
    """Skip a test, and say why, where networks' layers are not installed."""
    try:
        library()
    except MissingDependencyError as error:
        pytest.skip(str(error))
