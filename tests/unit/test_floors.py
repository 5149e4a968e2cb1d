"""Imports run one way: a module imports lower floors only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lamofcbench"

# From the ground up; modules of one floor do not import one another.
LEVELS = [
    ["errors"],
    ["bits", "atomic", "axes", "registry", "optional"],
    ["spec"],
    ["layout", "packing", "quant", "metrics"],
    ["manifest", "bitstream"],
    ["store", "codecs"],
    ["archive", "hub", "sampling"],
    ["fetch"],
    ["batch", "dataset", "models", "scores"],
    ["interop"],
    ["bench"],
    ["card"],
    ["cli"],
    ["__main__"],
]
FLOORS = {name: floor for floor, names in enumerate(LEVELS) for name in names}
# Lower floors that a part must not know all the same.
STRANGERS = {
    "models": {"store", "archive", "manifest", "layout"},
    "codecs": {"spec", "layout", "manifest"},
    "packing": {"spec"},
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("lamofcbench", "extraction")}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_lower_floors_only(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert own in FLOORS, f"{own} is on no floor"
    for name in imports(path):
        assert not name.startswith("extraction"), f"{path} imports {name}"
        other = part(name)
        if other in ("", own, "__version__"):
            continue
        assert other not in STRANGERS.get(own, ()), f"{path} imports {name}"
        floors = f"floor {FLOORS[own]} imports floor {FLOORS[other]}"
        assert FLOORS[other] < FLOORS[own], f"{path} imports {name}: {floors}"


def test_the_check_sees_an_upward_import(tmp_path: Path) -> None:
    module = tmp_path / "layout.py"
    module.write_text("from lamofcbench.store.writer import Sample\n")
    assert imports(module) == {"lamofcbench.store.writer.Sample"}
    assert FLOORS["store"] > FLOORS["layout"]


def loaded(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_is_light() -> None:
    heavy = {"torch", "transformers", "pyarrow", "zarr", "datasets", "numpy"}
    assert not heavy & loaded("import lamofcbench")
    assert "transformers" not in loaded("from lamofcbench import load_dataset")


def test_listing_imports_no_torch() -> None:
    command = "from lamofcbench.cli import cli\ncli(['list', '--json'], standalone_mode=False)"
    assert not {"torch", "transformers", "pyarrow"} & loaded(command)
