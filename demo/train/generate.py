"""Greedy decoding of many prompts at once, in float32, from an exported model. Written apart from the training code."""

import torch
import torch.nn.functional as F

from model import Config, rms_norm, rotary


class Decoder:
    def __init__(self, state: dict, config: Config, device, longest: int = 4608):
        self.w = {k: v.to(device) for k, v in state.items()}
        self.config, self.device = config, device
        self.cos, self.sin = rotary(config, longest, device)

    def _attention(self, l: int, x, positions, cache, lengths):
        """x [B, T, H]; positions [B, T]; cache (k, v) [B, kv, S, d] gets the new keys at positions. Key s is real if s <= query position."""
        c, w = self.config, self.w
        batch, length, _ = x.shape
        t = rms_norm(x, w["layer.attn_norm"][l], c.eps)
        project = lambda name, n: F.linear(t, w[f"layer.{name}"][l], w[f"layer.{name}_bias"][l]).view(batch, length, n, c.head_dim)
        q, k, v = project("q", c.heads), project("k", c.kv_heads), project("v", c.kv_heads)
        cos, sin = self.cos[positions].unsqueeze(2), self.sin[positions].unsqueeze(2)

        def turn(y):
            a, b = y.chunk(2, dim=-1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

        rows = torch.arange(batch, device=self.device)[:, None]
        cache[0][rows, positions], cache[1][rows, positions] = turn(k), v
        size = int(positions.max()) + 1
        keys, values = cache[0][:, :size], cache[1][:, :size]
        group = c.heads // c.kv_heads
        q = turn(q).view(batch, length, c.kv_heads, group, c.head_dim)
        scores = torch.einsum("btkgd,bskd->bkgts", q, keys) * c.head_dim ** -0.5
        s = torch.arange(size, device=self.device)
        seen = s[None, None, :] <= positions[:, :, None]
        if l % 2 == 0:
            seen &= positions[:, :, None] - s[None, None, :] < c.window
        scores = scores.masked_fill(~seen[:, None, None], float("-inf"))
        sink = w["layer.sinks"][l].view(1, c.kv_heads, group, 1, 1).expand(batch, -1, -1, length, 1)
        p = torch.cat((scores, sink), dim=-1).softmax(-1)[..., :-1]
        out = torch.einsum("bkgts,bskd->btkgd", p, values).reshape(batch, length, -1)
        return x + F.linear(out, w["layer.o"][l], w["layer.o_bias"][l])

    def _experts(self, l: int, x):
        c, w = self.config, self.w
        t = rms_norm(x, w["layer.mlp_norm"][l], c.eps).reshape(-1, c.hidden)
        top, index = F.linear(t, w["layer.router"][l], w["layer.router_bias"][l]).topk(c.active, dim=-1)
        weight = torch.zeros(t.shape[0], c.experts, device=self.device).scatter(1, index, top.softmax(-1))
        h = torch.einsum("th,eoh->teo", t, w["layer.gate_up"][l]) + w["layer.gate_up_bias"][l]
        gate, up = h[..., 0::2].clamp(max=c.limit), h[..., 1::2].clamp(-c.limit, c.limit)
        a = gate * torch.sigmoid(c.alpha * gate) * (up + 1)
        y = torch.einsum("tei,ehi->teh", a, w["layer.down"][l]) + w["layer.down_bias"][l]
        return x + (weight.unsqueeze(-1) * y).sum(1).view_as(x)

    def logits(self, ids, positions, caches):
        x = self.w["embed"][ids]
        for l in range(self.config.layers):
            x = self._experts(l, self._attention(l, x, positions, caches[l], None))
        return x

    def head(self, x):
        return F.linear(rms_norm(x, self.w["norm"], self.config.eps), self.w["head"])

    @torch.no_grad()
    def greedy(self, prompts: list, stops: set, limit: int) -> list:
        """Continuations (ids, with the stop token) of prompts of like length."""
        batch, longest = len(prompts), max(map(len, prompts))
        c = self.config
        shape = (batch, longest + limit, c.kv_heads, c.head_dim)
        caches = [(torch.zeros(shape, device=self.device), torch.zeros(shape, device=self.device)) for _ in range(c.layers)]
        ids = torch.zeros(batch, longest, dtype=torch.long)
        for i, p in enumerate(prompts):
            ids[i, :len(p)] = torch.tensor(p)
        lengths = torch.tensor([len(p) for p in prompts], device=self.device)
        # Padding writes keys after the prompt's end; decoding overwrites each of them before a query can see it.
        x = self.logits(ids.to(self.device), torch.arange(longest, device=self.device).expand(batch, -1), caches)
        token = self.head(x[torch.arange(batch, device=self.device), lengths - 1]).argmax(-1)
        made, stop = [token], torch.tensor(sorted(stops), device=self.device)
        done = torch.isin(token, stop)
        for step in range(limit - 1):
            if step % 8 == 0 and bool(done.all()):
                break
            x = self.logits(token[:, None], (lengths + step)[:, None], caches)
            token = self.head(x[:, 0]).argmax(-1)
            made.append(token)
            done |= torch.isin(token, stop)
        out = []
        for row in torch.stack(made, 1).tolist():
            end = next((i + 1 for i, t in enumerate(row) if t in stops), len(row))
            out.append(row[:end])
        return out

    @torch.no_grad()
    def all_logits(self, ids: list):
        """Logits [len(ids), vocabulary] of one sequence."""
        c = self.config
        shape = (1, len(ids), c.kv_heads, c.head_dim)
        caches = [(torch.zeros(shape, device=self.device), torch.zeros(shape, device=self.device)) for _ in range(c.layers)]
        positions = torch.arange(len(ids), device=self.device)[None]
        return self.head(self.logits(torch.tensor([ids], device=self.device), positions, caches))[0]
