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


class _Scan(torch.autograd.Function):
    """States h_t = exp(d_t A) h_{t-1} + x_t B_t from h_{-1} = 0, and what is read, y_t = h_t C_t.

    All is done step by step, on tensors that stay in the processor's cache, channels last. Shapes:
    d, x and y [length, batch, channels]; B and C [length, states, batch, 1]; A [states, 1,
    channels]. Products are summed over the states.
    """

    @staticmethod
    def forward(
        ctx: Any,
        d: torch.Tensor,
        x: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
    ) -> torch.Tensor:
        states = x.new_empty(len(x), len(A), *x.shape[1:])
        y = torch.empty_like(x)
        state = torch.zeros_like(states[0])
        for t in range(len(x)):
            decay = torch.mul(d[t], A).exp_()
            state = torch.addcmul(x[t] * B[t], decay, state, out=states[t])
            torch.sum(torch.mul(state, C[t], out=decay), 0, out=y[t])
        ctx.save_for_backward(d, x, A, B, C, states)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        d, x, A, B, C, states = ctx.saved_tensors
        to_d, to_x, to_A = torch.empty_like(d), torch.empty_like(x), torch.zeros_like(A)
        to_B, to_C = torch.empty_like(B), torch.empty_like(C)
        start = torch.zeros_like(states[0])
        carried, work = torch.zeros_like(start), torch.empty_like(start)
        for t in reversed(range(len(x))):
            before = states[t - 1] if t else start
            torch.sum(torch.mul(states[t], grad[t], out=work), 2, keepdim=True, out=to_C[t])
            carried.addcmul_(grad[t], C[t])
            torch.sum(torch.mul(carried, B[t], out=work), 0, out=to_x[t])
            torch.sum(torch.mul(carried, x[t], out=work), 2, keepdim=True, out=to_B[t])
            carried.mul_(torch.mul(d[t], A, out=work).exp_())
            through = torch.mul(carried, before, out=work)
            to_A += (through * d[t]).sum(1, keepdim=True)
            torch.sum(through.mul_(A), 0, out=to_d[t])
        return to_d, to_x, to_A, to_B, to_C


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
    u, steps = (x.permute(2, 0, 1).contiguous() for x in (hidden_states, dt))
    steps = F.softplus(steps + delta_bias)
    into, out = (x.permute(2, 1, 0)[..., None].contiguous() for x in (B, C))
    read = _Scan.apply(steps, steps * u, A.T[:, None].contiguous(), into, out)
    result = read + u * D
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
