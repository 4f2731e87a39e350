"""MXFP4: 32 E2M1 codes with one power-of-two scale, by OpenAI's rule (scale >= amax/6, round to nearest even)."""

import torch

BLOCK = 32
MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def scale_bits(blocks: torch.Tensor) -> torch.Tensor:
    """The smallest power of two at or above amax/6 of each block, as its float32 bits. blocks: [..., 32] float32."""
    amax = blocks.abs().amax(dim=-1, keepdim=True)
    return ((amax / 6.0).view(torch.int32) + 0x007FFFFF) & 0x7F800000


def round_e2m1(x: torch.Tensor) -> torch.Tensor:
    """Rounds |x| <= 6 to the nearest E2M1 magnitude, ties to the even code. Keeps the sign."""
    a = x.abs()
    step = torch.where(a < 2.0, 0.5, torch.where(a < 4.0, 1.0, 2.0))  # the spacing of the grid above a
    return torch.sign(x) * (torch.round(a / step) * step).clamp(max=6.0)


def quantise(weight: torch.Tensor) -> torch.Tensor:
    """The values that MXFP4 keeps of weight, blocks along the last axis. float32 in, float32 out."""
    blocks = weight.float().unflatten(-1, (-1, BLOCK))
    bits = scale_bits(blocks)
    scale = bits.view(torch.float32)
    safe = torch.where(bits == 0, torch.ones_like(scale), scale)
    return (round_e2m1(blocks / safe) * scale).flatten(-2)


class StraightThrough(torch.autograd.Function):
    """quantise forward when on is 1, identity when 0; the gradient passes unchanged either way."""

    @staticmethod
    def forward(ctx, weight, on):
        return torch.where(on > 0, quantise(weight), weight)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def pack(weight: torch.Tensor) -> tuple:
    """(blocks u8 [..., in/32, 16], scales u8 [..., in/32]): byte j holds element 2j in its low nibble."""
    blocks = weight.float().unflatten(-1, (-1, BLOCK))
    bits = scale_bits(blocks)
    scale = bits.view(torch.float32)
    safe = torch.where(bits == 0, torch.ones_like(scale), scale)
    values = round_e2m1(blocks / safe)
    grid = torch.tensor(MAGNITUDES, device=weight.device)
    codes = (values.abs().unsqueeze(-1) == grid).float().argmax(-1).to(torch.uint8)
    codes = codes | ((values < 0).to(torch.uint8) << 3)
    packed = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return packed.contiguous(), (bits.squeeze(-1) >> 23).to(torch.uint8).contiguous()


def unpack(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The float32 values [..., in] of packed codes."""
    grid = torch.tensor(MAGNITUDES + tuple(-m for m in MAGNITUDES), device=blocks.device)
    codes = torch.stack((blocks & 15, blocks >> 4), dim=-1).flatten(-2).long()
    values = grid[codes] * torch.exp2(scales.float() - 127.0).unsqueeze(-1)
    return values.flatten(-2)
