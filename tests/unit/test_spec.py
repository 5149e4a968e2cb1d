import pytest

from lamofcbench.errors import DeclarationError, UnknownNameError
from lamofcbench.spec import expand, list_configs, load_scenario, parse_scenario
from tests import stores

VALID = """
config = "toy-llm"
title = "A toy"
category = "CLU"
family = "llm"
task = "nothing"
metric = "nothing"
[profiles.tiny]
split_point = "nowhere"
model = { id = "toy", licence = "none", dtype = "float32" }
samples = { test = 3 }
ragged = { token = { max = 8, typical = 4 } }
keys = [{ name = "a.{0..1}", axes = ["token", "dim"], shape = ["token", 2], captured = "float32" }]
[profiles.tiny.source]
name = "toy"
id = "toy"
split = "x"
calibration_split = "x"
licence = "none"
selection = "all"
[profiles.tiny.modes]
all = { keys = ["a.{0..1}"] }
"""


@pytest.mark.parametrize("config", list_configs())
def test_every_declaration_is_valid(config: str) -> None:
    scenario = load_scenario(config)
    assert {"tiny", "full"} == set(scenario.profiles)
    for profile in scenario.profiles.values():
        assert profile.samples.calibration == 32
        assert profile.samples.test == 100
    assert scenario.profile("tiny").samples.train == 256
    assert scenario.profile("full").samples.train == 0


def test_names_expand_as_in_a_shell() -> None:
    assert expand("layer.{0..2}") == ["layer.0", "layer.1", "layer.2"]
    assert expand("layer.{9,39}.{k,v}") == ["layer.9.k", "layer.9.v", "layer.39.k", "layer.39.v"]
    assert expand("vision.output") == ["vision.output"]


def test_all_faults_of_a_file_are_reported_together() -> None:
    text = VALID.replace("title", "titel").replace('licence = "none", ', "")
    text = text.replace('"a.{0..1}"] }', '"b"] }')
    with pytest.raises(DeclarationError) as caught:
        parse_scenario(text, "toy.toml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("toy.toml: ") for line in lines)
    assert any("titel: Extra inputs" in line for line in lines)
    assert any("title: Field required" in line for line in lines)
    assert any("model.licence: Field required" in line for line in lines)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('["token", "dim"]', '["token", "width", "dim"]', "3 axes, 2 sizes"),
        ('["token", "dim"]', '["token", "tokens"]', "axes"),
        ('shape = ["token", 2]', 'shape = ["token", 0]', "shape"),
        ('shape = ["token", 2]', "shape = [4, 2]", "it is ragged in every key"),
        ('["a.{0..1}"] }', '["a.2"] }', "no key 'a.2'"),
        ("ragged = { token = { max = 8, typical = 4 } }", "", "has no bounds"),
        ("max = 8", "max = 3", "typical 4 is above max 3"),
        ('"float32" }]', '"int64", stored = "bfloat16" }]', "cannot be stored as bfloat16"),
        ("test = 3", "test = 0", "greater than 0"),
        ("config =", "config", "not valid TOML"),
    ],
)
def test_a_malformed_declaration_is_refused(old: str, new: str, says: str) -> None:
    assert old in VALID
    with pytest.raises(DeclarationError, match=says):
        parse_scenario(VALID.replace(old, new), "toy.toml")


def test_unknown_names_list_near_matches() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'vqa-mllm'"):
        load_scenario("vqa-mlm")
    with pytest.raises(UnknownNameError, match="Did you mean 'full'"):
        load_scenario("vqa-mllm").profile("ful")
    with pytest.raises(UnknownNameError, match=r"layer\.1\.output"):
        stores.profile().key("layer.1.outputs")
    with pytest.raises(UnknownNameError, match="mode"):
        stores.profile().mode("nothing")


def test_a_profile_survives_json() -> None:
    profile = stores.profile()
    assert type(profile).model_validate_json(profile.model_dump_json()) == profile
