"""GPT-OSS for training: the same function as the reference, batched so that one GPU is busy.

Weights of all layers are stacked: [layers, ...]. Every expert sees every token and the router's weight (zero for an
expert that was not chosen) multiplies its activation: for eight small experts two dense products beat grouping."""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from mxfp4 import StraightThrough


@dataclass(frozen=True)
class Config:
    vocabulary: int = 2048
    layers: int = 8
    hidden: int = 192
    intermediate: int = 192
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    experts: int = 8
    active: int = 4
    window: int = 128
    theta: float = 150000.0
    factor: float = 32.0
    original_context: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    eps: float = 1e-5
    alpha: float = 1.702
    limit: float = 7.0

    def dict(self) -> dict:
        return asdict(self)


def rotary(config: Config, length: int, device) -> tuple:
    """cos and sin [length, head_dim/2], YaRN by parts with concentration, in float32 as every GPT-OSS code computes them."""
    half = config.head_dim // 2
    frequency = config.theta ** (torch.arange(0, half, dtype=torch.float64) / half)

    def turn(beta: float) -> float:
        return half * math.log(config.original_context / (beta * 2 * math.pi)) / math.log(config.theta)

    low, high = turn(config.beta_fast), turn(config.beta_slow)
    ramp = ((torch.arange(half, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    inverse = (ramp / (config.factor * frequency) + (1 - ramp) / frequency).float()
    concentration = 0.1 * math.log(config.factor) + 1.0
    angle = torch.arange(length, dtype=torch.float32)[:, None] * inverse[None, :]
    return (angle.cos() * concentration).to(device), (angle.sin() * concentration).to(device)


def rms_norm(x, weight, eps: float):
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x, cos, sin):
    """x [B, heads, T, d]; cos, sin [B, 1, T, d/2]; half-split pairs."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def with_lse(q, k, v, mask):
    try:
        from torch.nn.attention.flex_attention import AuxRequest
        out, aux = flex_attention(q, k, v, block_mask=mask, enable_gqa=True, return_aux=AuxRequest(lse=True))
        return out, aux.lse
    except ImportError:
        return flex_attention(q, k, v, block_mask=mask, enable_gqa=True, return_lse=True)


def route(t, weight, bias, active: int):
    """Router weights [tokens, experts] with zeros for experts not chosen, and the balance loss of this layer."""
    logits = t.float() @ weight.float().t() + bias
    top, index = logits.topk(active, dim=-1)
    dense = torch.zeros_like(logits).scatter(-1, index, top.softmax(-1))
    chosen = torch.zeros_like(logits).scatter(-1, index, 1.0 / active)
    balance = logits.shape[-1] * (chosen.mean(0) * logits.softmax(-1).mean(0)).sum()
    return dense, balance


def block(x, cos, sin, mask, w: dict, config: Config, dtype):
    """One layer on x [B, T, H] float32. Returns (x, balance loss)."""
    batch, length, hidden = x.shape
    t = rms_norm(x, w["attn_norm"], config.eps).to(dtype)
    heads = lambda y, n: y.view(batch, length, n, config.head_dim).transpose(1, 2)
    project = lambda name: F.linear(t, w[name].to(dtype), w[name + "_bias"].to(dtype))
    q = rotate(heads(project("q"), config.heads), cos, sin).to(dtype)
    k = rotate(heads(project("k"), config.kv_heads), cos, sin).to(dtype)
    v = heads(project("v"), config.kv_heads)
    out, lse = with_lse(q, k, v, mask)
    out = out * torch.sigmoid(lse - w["sinks"].view(1, -1, 1)).unsqueeze(-1).to(out.dtype)  # the sink: softmax with one more logit
    out = out.transpose(1, 2).reshape(batch, length, -1).to(dtype)
    x = x + F.linear(out, w["o"].to(dtype), w["o_bias"].to(dtype))

    t = rms_norm(x, w["mlp_norm"], config.eps).reshape(-1, hidden)
    dense, balance = route(t, w["router"], w["router_bias"], config.active)
    first = w["gate_up"].to(dtype).reshape(-1, hidden)
    h = F.linear(t.to(dtype), first, w["gate_up_bias"].to(dtype).reshape(-1)).view(-1, config.experts, config.intermediate, 2)
    gate, up = h[..., 0].float().clamp(max=config.limit), h[..., 1].float().clamp(-config.limit, config.limit)
    a = gate * torch.sigmoid(config.alpha * gate) * (up + 1) * dense.unsqueeze(-1)
    second = w["down"].to(dtype).permute(0, 2, 1).reshape(-1, hidden)
    y = a.to(dtype).reshape(a.shape[0], -1) @ second + (dense @ w["down_bias"].float()).to(dtype)
    return x + y.view(batch, length, hidden), balance


def head_loss(x, norm, head, targets, weights, eps: float, dtype):
    """Sum of the weighted next-token losses; x [B, T, H]."""
    logits = F.linear(rms_norm(x, norm, eps).to(dtype), head.to(dtype)).float()
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (loss * weights.flatten()).sum()


LAYER_SHAPES = {
    "attn_norm": lambda c: (c.hidden,), "mlp_norm": lambda c: (c.hidden,), "sinks": lambda c: (c.heads,),
    "q": lambda c: (c.heads * c.head_dim, c.hidden), "q_bias": lambda c: (c.heads * c.head_dim,),
    "k": lambda c: (c.kv_heads * c.head_dim, c.hidden), "k_bias": lambda c: (c.kv_heads * c.head_dim,),
    "v": lambda c: (c.kv_heads * c.head_dim, c.hidden), "v_bias": lambda c: (c.kv_heads * c.head_dim,),
    "o": lambda c: (c.hidden, c.heads * c.head_dim), "o_bias": lambda c: (c.hidden,),
    "router": lambda c: (c.experts, c.hidden), "router_bias": lambda c: (c.experts,),
    "gate_up": lambda c: (c.experts, 2 * c.intermediate, c.hidden), "gate_up_bias": lambda c: (c.experts, 2 * c.intermediate),
    "down": lambda c: (c.experts, c.hidden, c.intermediate), "down_bias": lambda c: (c.experts, c.hidden),
}
EXPERT_WEIGHTS = ("gate_up", "down")


class Model(nn.Module):
    def __init__(self, config: Config, seed: int = 0):
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        normal = lambda shape, std: torch.randn(shape, generator=generator) * std
        self.embed = nn.Parameter(normal((config.vocabulary, config.hidden), 0.3))
        self.head = nn.Parameter(normal((config.vocabulary, config.hidden), 0.02))
        self.norm = nn.Parameter(torch.ones(config.hidden))
        self.layer = nn.ParameterDict()
        for name, shape in LAYER_SHAPES.items():
            full = (config.layers,) + shape(config)
            if name.endswith("norm"):
                value = torch.ones(full)
            elif name.endswith("_bias") or name == "sinks":
                value = torch.zeros(full)
            else:
                # The two projections that write to the residual stream start small.
                std = full[-1] ** -0.5 * (0.2 if name in ("o", "down") else 1.0)
                value = normal(full, std)
            self.layer[name] = nn.Parameter(value)
        self.register_buffer("quantised", torch.zeros(()), persistent=False)  # 1 when the experts are rounded to MXFP4
        self.dtype = torch.bfloat16
        self.run_block, self.run_head, self.run_quantise = block, head_loss, StraightThrough.apply

    def compile(self):
        self.run_block = torch.compile(block, dynamic=False)
        self.run_head = torch.compile(head_loss, dynamic=False)
        self.run_quantise = torch.compile(StraightThrough.apply, dynamic=False)

    def hidden_states(self, ids, positions, masks, tables):
        """ids, positions [B, T]; masks (window, full). Returns the state before the final norm, and the mean balance loss."""
        weights = {name: self.run_quantise(p, self.quantised) if name in EXPERT_WEIGHTS else p for name, p in self.layer.items()}
        layers = {name: p.unbind(0) for name, p in weights.items()}
        cos, sin = tables[0][positions].unsqueeze(1), tables[1][positions].unsqueeze(1)
        x, balance = F.embedding(ids, self.embed), 0.0
        for l in range(self.config.layers):
            x, b = self.run_block(x, cos, sin, masks[l % 2], {n: p[l] for n, p in layers.items()}, self.config, self.dtype)
            balance = balance + b / self.config.layers
        return x, balance

    def loss(self, ids, targets, weights, positions, masks, tables):
        x, balance = self.hidden_states(ids, positions, masks, tables)
        total = self.run_head(x, self.norm, self.head, targets, weights, self.config.eps, self.dtype)
        return total / weights.sum().clamp(min=1), balance


def document_masks(documents, window: int, compiled=create_block_mask):
    """(window, full) block masks for rows of packed documents; documents [B, T] holds each token's document number."""
    batch, length = documents.shape

    def full(b, h, i, j):
        return (j <= i) & (documents[b, i] == documents[b, j])

    def sliding(b, h, i, j):
        return (j <= i) & (i - j < window) & (documents[b, i] == documents[b, j])

    build = lambda rule: compiled(rule, batch, None, length, length, device=documents.device)
    return build(sliding), build(full)
