"""A state-space scan that trains in reasonable time on a CPU.

The library's own loop gathers each step's gradient into a tensor of the whole sequence, so its
backward pass grows with the square of the length. This one computes the same, and is used in
training alone: what is captured always comes from the library.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F
from transformers.models.falcon_mamba import modeling_falcon_mamba

__all__ = ["fast_scan", "selective_scan"]


class _Recurrence(torch.autograd.Function):
    """States h_t = a_t h_{t-1} + b_t along the first axis, from h_{-1} = 0."""

    @staticmethod
    def forward(ctx: Any, decay: torch.Tensor, inflow: torch.Tensor) -> torch.Tensor:
        states = torch.empty_like(inflow)
        state = torch.zeros_like(inflow[0])
        for t in range(len(inflow)):
            state = torch.addcmul(inflow[t], decay[t], state, out=states[t])
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        decay, states = ctx.saved_tensors
        inflow = torch.empty_like(grad)
        carried = torch.zeros_like(grad[0])
        for t in reversed(range(len(grad))):
            carried = torch.add(grad[t], carried, out=inflow[t]) * decay[t]
        before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
        return inflow * before, inflow


def selective_scan(
    hidden_states: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    z: torch.Tensor,
    delta_bias: torch.Tensor,
    **_: Any,
) -> torch.Tensor:
    """The library's ``mamba_selective_scan`` without a final state.

    Args:
        hidden_states: [batch, channels, length]; so are ``dt``, before softplus, and ``z``.
        dt: step sizes.
        A: [channels, states].
        B: [batch, states, length]; so is ``C``.
        C: see ``B``.
        D: [channels].
        z: gate.
        delta_bias: [channels].

    Returns:
        [batch, channels, length].
    """
    u, steps = (x.permute(2, 0, 1) for x in (hidden_states, dt))
    steps = F.softplus(steps + delta_bias)
    into, out = (x.permute(2, 0, 1) for x in (B, C))
    decay = torch.exp(steps[..., None] * A)
    states = _Recurrence.apply(decay, (steps * u)[..., None] * into[:, :, None, :])
    result = (states @ out[..., None])[..., 0] + u * D
    return (result * F.silu(z.permute(2, 0, 1))).permute(1, 2, 0)


@contextmanager
def fast_scan() -> Iterator[None]:
    """Within this context the library's models scan with `selective_scan`."""
    usual = modeling_falcon_mamba.mamba_selective_scan
    modeling_falcon_mamba.mamba_selective_scan = selective_scan
    try:
        yield
    finally:
        modeling_falcon_mamba.mamba_selective_scan = usual
