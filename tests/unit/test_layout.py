"""Chunk and shard rules against figures worked out by hand from the format's text."""

from typing import Any

import pytest

from lamofcbench.layout import ArrayLayout, build_layouts, samples_per_shard
from lamofcbench.spec import ProfileSpec, TensorSpec, load_scenario
from tests import stores


def layout(
    axes: list[str], shape: list[Any], dtype: str, ragged: dict[str, int], **changes: Any
) -> ArrayLayout:
    spec = ProfileSpec.model_construct(
        ragged={
            axis: type("R", (), {"max": most, "typical": most})() for axis, most in ragged.items()
        },
        compression=changes.get("compression", "blosc"),
    )
    tensor = TensorSpec.model_validate(stores.tensor("x", axes, shape, dtype))
    return ArrayLayout.build("x", tensor, spec, samples=10, per_shard=4)


@pytest.mark.parametrize(
    ("axes", "shape", "dtype", "ragged", "chunk"),
    [
        # 1029 tokens of 16 KiB: 64 a MiB, so 17 chunks, evenly 61 rows.
        (["token", "dim"], [1029, 4096], "float32", {}, [1, 61, 4096]),
        # Ragged tokens of 8 KiB: as many as fit, 128.
        (["token", "dim"], ["token", 4096], "bfloat16", {"token": 1280}, [1, 128, 4096]),
        # Token-major caches of 2 KiB.
        (["token", "head", "dim"], ["token", 8, 128], "bfloat16", {"token": 999}, [1, 512, 8, 128]),
        # Crops: one crop a chunk, its 3141 tokens of 16 KiB in 50 chunks of 63.
        (["crop", "token", "dim"], ["crop", 3141, 4096], "float32", {"crop": 8}, [1, 1, 63, 4096]),
        # No token axis: the first axis is cut; 8192 x 16 float32 is half a MiB.
        (["channel", "state"], [8192, 16], "float32", {}, [1, 8192, 16]),
        # A map on one ragged axis: a MiB of bytes.
        (["pixel"], ["pixel"], "uint8", {"pixel": 9000000}, [1, 1048576]),
    ],
)
def test_chunks_follow_the_rule(
    axes: list[str], shape: list[Any], dtype: str, ragged: dict[str, int], chunk: list[int]
) -> None:
    assert list(layout(axes, shape, dtype, ragged).chunk) == chunk


def test_uncompressed_chunks_are_sixteen_times_smaller() -> None:
    cut = layout(["token", "dim"], ["token", 4096], "bfloat16", {"token": 99}, compression="none")
    assert cut.chunk == (1, 8, 4096)


def test_only_chunks_within_the_length_exist() -> None:
    cut = layout(["token", "dim"], ["token", 4096], "bfloat16", {"token": 400})
    assert cut.grid == (4, 1)
    assert cut.shard == (4, 512, 4096)
    assert cut.present(1) == (True, False, False, False)
    assert cut.present(128) == (True, False, False, False)
    assert cut.present(129) == (True, True, False, False)
    assert cut.present(400) == (True, True, True, True)
    assert cut.present(0) == (False,) * 4


def test_caches_come_back_head_first() -> None:
    cut = layout(["token", "head", "dim"], ["token", 8, 128], "bfloat16", {"token": 9})
    assert cut.native_order == (1, 0, 2)
    assert layout(["crop", "token", "dim"], [2, 3, 4], "float32", {}).native_order == (0, 1, 2)


@pytest.mark.parametrize(
    ("config", "samples"),
    [
        # 1029 x 4096 float32 is 16.9 MB: 15 in 256 MB; 17 chunks each.
        ("in1k-vit", 15),
        # 340 x 4096 bfloat16 is 2.8 MB: 91 fit; 10 chunks each at the bound of 1280.
        ("vqa-mllm", 91),
    ],
)
def test_shards_follow_the_rule_at_full_size(config: str, samples: int) -> None:
    profile = load_scenario(config).profile("full")
    assert samples_per_shard(profile, "full") == samples
    assert samples_per_shard(load_scenario(config).profile("tiny"), "tiny") == 16
    for cut in build_layouts(profile, "full", 132).values():
        assert cut.shard[0] == samples
        assert cut.shard[0] * cut.chunks_per_sample <= 2048


def test_a_layout_survives_the_manifest() -> None:
    for path, cut in build_layouts(stores.profile(), "tiny", 36).items():
        assert ArrayLayout.from_manifest(path, cut.to_manifest()) == cut
