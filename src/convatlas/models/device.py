"""Where a network computes, and in what."""

from __future__ import annotations

import torch

from convatlas.errors import UserError


def resolve_device(name: str | None, local_rank: int = 0) -> torch.device:
    """The device of that kind, or the fastest that is there.

    Raises:
        UserError: there is none of that kind.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = name or next(kind for kind, there in available.items() if there)
    if not available.get(kind, False):
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise UserError(f"there is no device {kind!r} on this machine; it has {there}")
    return torch.device("cuda", local_rank) if kind == "cuda" else torch.device(kind)


def computes_bfloat16(device: str) -> bool:
    """Whether that kind of device has instructions for it; without them it is slower by far."""
    if device == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
