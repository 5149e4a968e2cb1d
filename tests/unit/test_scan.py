import torch
from transformers.models.falcon_mamba import modeling_falcon_mamba

from extraction.tiny.scan import selective_scan


def test_the_training_scan_equals_the_library_s_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    shapes = {
        "hidden_states": (2, 6, 9),
        "dt": (2, 6, 9),
        "A": (6, 4),
        "B": (2, 4, 9),
        "C": (2, 4, 9),
        "D": (6,),
        "z": (2, 6, 9),
        "delta_bias": (6,),
    }
    given = {name: torch.randn(shape) for name, shape in shapes.items()}
    given["A"] = -given["A"].exp()
    results = []
    for scan in (selective_scan, modeling_falcon_mamba.mamba_selective_scan):
        inputs = {name: value.clone().requires_grad_() for name, value in given.items()}
        out = scan(**inputs, delta_softplus=True)
        (out * torch.arange(out.numel()).view(out.shape)).sum().backward()
        results.append([out.detach(), *(value.grad for value in inputs.values())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
