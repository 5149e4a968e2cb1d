"""Cards: generated, valid on the Hub, and never stale."""

import json
import re
import subprocess
import sys
from pathlib import Path

import mlcroissant
import pytest
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard

from lamofcbench.card.metadata import finished_stores
from lamofcbench.card.write import write_archive_card, write_card
from lamofcbench.spec import list_configs
from tests import stores

COMMAND = (sys.executable, "-m", "lamofcbench")
ROOT = Path(__file__).parents[2]
CARDS = ROOT / "cards"
FIGURE = re.compile(r"!\[[^\]]+\]\(([^)]+)\)")
# What another processor, or another release of a library, may compute otherwise.
HASH = r"[0-9a-f]{64}"
MEASURED = re.compile(rf"{HASH}|-?\d[\d.,]*(e[+-]\d+)?")


def blind(text: str) -> str:
    return MEASURED.sub("#", text)


@pytest.mark.parametrize("config", list_configs())
def test_the_card_is_what_would_be_written_now(
    config: str, real_archive: Path, tmp_path: Path
) -> None:
    committed = (CARDS / config / "README.md").read_text("utf-8")
    folder = tmp_path / config
    folder.mkdir()
    for path in (CARDS / config).iterdir():
        if path.suffix != ".md":
            (folder / path.name).symlink_to(path)
    now = write_card(real_archive, config, folder, None).read_text("utf-8")
    manifest = finished_stores(real_archive)[config][0]
    if manifest.content_hash in committed:
        versions = re.compile(r"^- \*\*versions\*\*.*$", re.MULTILINE)
        assert versions.sub("", now) == versions.sub("", committed)
        return
    # Other bits of the features: results beside the card are not of this archive, all else is.
    sections = r"## (Scores|Keys that matter|Codecs)\n.*?(?=\n## How|\n## Codecs|\n## Keys)"
    first, second = (re.sub(sections, "", text, flags=re.DOTALL) for text in (committed, now))
    assert blind(first) == blind(second)


@pytest.mark.parametrize("config", list_configs())
def test_a_card_is_whole(config: str) -> None:
    text = (CARDS / config / "README.md").read_text("utf-8")
    figures = FIGURE.findall(text)
    assert len(figures) >= 4
    for name in figures:
        assert (CARDS / config / name).stat().st_size > 1000, name
    for word in ("Not measured yet", "TODO", "None", "nan", "|  |"):
        assert word not in text.replace("|  |\n", ""), word
    for row in json.loads((CARDS / config / "results.json").read_text("utf-8"))["rows"]:
        assert row["config"] == config
    card = DatasetCard(text)
    assert card.data.to_dict()["configs"][0]["config_name"] == config
    assert config in MetadataConfigs.from_dataset_card_data(card.data)


# rdflib, beneath mlcroissant, warns of its own names.
@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
def test_an_archive_s_card_and_croissant_are_valid(real_archive: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for folder in real_archive.iterdir():
        if folder.is_dir():
            (archive / folder.name).symlink_to(folder)
    readme, described = write_archive_card(archive, "org/lamofcbench")
    card = DatasetCard(readme.read_text("utf-8"))
    listed = MetadataConfigs.from_dataset_card_data(card.data)
    assert sorted(listed) == list_configs()
    for name, entry in listed.items():
        for file in entry["data_files"]:
            assert (archive / file["path"]).is_file(), name
    assert 'load_dataset("org/lamofcbench", "ade20k-vit")' in card.text
    dataset = mlcroissant.Dataset(str(described))
    splits = {"calibration", "test", "train"}
    assert {r.name for r in dataset.metadata.record_sets} == {
        f"{config}-tiny-{split}" for config in list_configs() for split in splits
    }
    tables = {f.id: f for f in dataset.metadata.distribution}
    manifest = finished_stores(archive)["arc-llm"][0]
    entry = tables["arc-llm-tiny-test-table"]
    assert entry.sha256 == manifest.files["samples-test.parquet"].sha256


def test_an_unfinished_or_missing_config_is_one_line(tmp_path: Path) -> None:
    stores.write(tmp_path / "archive", stores.small())
    for config, said in (("arc-llm", "make extract SCENARIO=arc-llm"), ("arc-lm", "arc-llm")):
        done = subprocess.run(
            [*COMMAND, "card", config, "--archive", tmp_path / "archive", "--out", tmp_path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
