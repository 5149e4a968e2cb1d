"""The reference's accounting, on numbers made by hand."""

import pytest
import torch

from lamofcbench.bench.reference import ReferencePart, reference_numbers, squared_error


def test_bits_and_errors_are_summed_over_all_tensors() -> None:
    parts = {
        "layer.4.output": ReferencePart(30, 100, 16, 5.0),
        "layer.0.ssm_state": ReferencePart(20, 300, 32, 3.0),
    }
    found = reference_numbers(parts)
    assert found["bpfp_ref"] == [8 * 50 / 400]
    assert found["ebpfp_ref"] == [(8 * 30 * 2 + 8 * 20) / 400]
    assert found["mse_ref"] == [8 / 400]


def test_the_vae_encoder_counts_twice() -> None:
    parts = {
        "vae.encoder": ReferencePart(10, 40, 16, 1.0),
        "vae.decoder": ReferencePart(3, 20, 16, 4.0),
    }
    found = reference_numbers(parts)
    assert found["bpfp_ref"] == [8 * 23 / 100]
    assert found["ebpfp_ref"] == [2 * 8 * 23 / 100]
    assert found["mse_ref"] == [6 / 100]


def test_errors_are_those_of_the_files_dtype() -> None:
    before, after = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([1.0001, 2.5, 0.0])
    assert squared_error(before, after, torch.float16) == 0.25
    assert squared_error(before, after, torch.float32) == pytest.approx(0.25 + 1e-8, rel=1e-4)
