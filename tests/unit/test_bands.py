import pytest

from lamofcbench.errors import DeclarationError
from lamofcbench.metrics.bands import Bands
from lamofcbench.metrics.statistics import Statistics
from lamofcbench.spec import list_configs, load_scenario

TEXT = """
[[band]]
keys = "layer.*"
kurtosis = [4, 60]
[[band]]
keys = "layer.*.output"
kurtosis = [100, 9000.0]
[[real]]
keys = "*.output"
model = "a model"
kurtosis = 7000
[[published]]
keys = "layer.4.output"
model = "another"
range = [-21.6, 83]
"""


def figures(kurtosis: float) -> Statistics:
    return Statistics(kurtosis, 1, 1, 1, 1, 1, 1, 0, 1)


def test_later_limits_override() -> None:
    bands = Bands.parse(TEXT, "toy.toml")
    assert bands.limits("layer.1.k_cache") == {"kurtosis": (4, 60)}
    assert bands.limits("layer.4.output") == {"kurtosis": (100, 9000)}
    assert bands.limits("vision") == {}
    assert [entry["model"] for entry in bands.known("layer.4.output")] == ["a model", "another"]
    assert bands.outside("layer.4.output", figures(200)) == []
    assert bands.outside("layer.4.output", figures(3)) == [
        "layer.4.output: kurtosis is 3, not in 100 to 9000"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[[band]]\nkurtosis = [1, 2]",
        '[[band]]\nkeys = "*"\nkurtosis = [2, 1]',
        '[[band]]\nkeys = "*"\nkurtosis = 2',
        '[[band]]\nkeys = "*"\nminimum = [1, 2]',
        "[[bands]]\n",
        "nonsense",
    ],
)
def test_a_malformed_file_is_refused(text: str) -> None:
    with pytest.raises(DeclarationError, match=r"toy\.toml"):
        Bands.parse(text, "toy.toml")


@pytest.mark.parametrize("config", list_configs())
def test_every_key_has_limits(config: str) -> None:
    scenario = load_scenario(config)
    bands = Bands.load(scenario.family)
    for key in scenario.profile("tiny").keys:
        assert bands.limits(key.name), f"{config}: {key.name}"
