"""Trains the demo model.

    python3 train/train.py --steps 5000 --budget 500 --state STATE --out model

Warm-up, constant rate, then decay over the last part, by seconds (--budget, --decay) or by steps (--steps, --decay-from:
repeatable on any card). Can go on from --resume. Muon for the matrices, AdamW for the rest; experts see MXFP4 values from --quantise-from on."""

import argparse
import json
import math
import pathlib
import time

import torch

import batches
import export
import mxfp4
from model import EXPERT_WEIGHTS, Config, Model, create_block_mask, document_masks, rotary

HERE = pathlib.Path(__file__).resolve().parent.parent
MUON = ("q", "k", "v", "o", "gate_up", "down")


def orthogonalise(g, steps: int = 5):
    """The nearest semi-orthogonal matrix to each of g [n, rows, columns], by a quintic Newton-Schulz iteration in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.to(torch.bfloat16)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return (x.mT if tall else x).float()


class Muon:
    """Momentum, orthogonalised; the update's root mean square is 0.2, so that AdamW's rates and decay serve."""

    def __init__(self, parameters: list, momentum: float = 0.95, decay: float = 0.1):
        self.parameters, self.momentum, self.decay = parameters, momentum, decay
        self.buffers = [torch.zeros_like(p) for p in parameters]
        self.orthogonalise = torch.compile(orthogonalise, dynamic=False) if parameters[0].is_cuda else orthogonalise

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for p, buffer in zip(self.parameters, self.buffers):
            buffer.lerp_(p.grad, 1 - self.momentum)
            g = p.grad.lerp(buffer, self.momentum)
            update = self.orthogonalise(g.flatten(0, -3)).view_as(p)
            p.mul_(1 - rate * self.decay).add_(update, alpha=-rate * 0.2 * math.sqrt(max(p.shape[-2:])))


def rate_at(step: int, elapsed: float, options) -> float:
    """The share of the peak rate: up over --warmup steps, down to 0 by steps (--decay-from) or over the last --decay seconds."""
    warm = min(1.0, (step - options.first + 1) / options.warmup)
    if options.decay_from:
        return warm * max(0.0, min(1.0, (options.steps - step) / (options.steps - options.decay_from)))
    left = (options.budget - elapsed) / max(options.decay, 1e-9)
    return warm * max(0.0, min(1.0, left))


def save(model: Model, folder: pathlib.Path, step: int) -> None:
    """The state to go on from: the float32 weights. The optimisers' moments start anew, under a short warm-up."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().cpu() for k, v in model.state_dict().items()}
    experts = {k: weights.pop(k) for k in list(weights) if k in ("layer.gate_up", "layer.down")}
    torch.save({"step": step, "config": model.config.dict(), "weights": weights}, folder / "rest.pt")
    for name, value in experts.items():
        for half, part in enumerate(value.chunk(2)):  # files under 16 MiB
            torch.save(part.clone(), folder / f"{name}.{half}.pt")


def restore(model: Model, folder: pathlib.Path) -> int:
    rest = torch.load(folder / "rest.pt", weights_only=True)
    weights = dict(rest["weights"])
    for name in ("layer.gate_up", "layer.down"):
        weights[name] = torch.cat([torch.load(folder / f"{name}.{half}.pt", weights_only=True) for half in (0, 1)])
    model.load_state_dict(weights)
    return rest["step"]


def export_model(model: Model, folder: pathlib.Path) -> None:
    """Writes what the forward pass saw: the experts as rounded on the training device."""
    state = {k: v.detach().float().cpu() for k, v in model.state_dict().items()}
    for name in EXPERT_WEIGHTS:
        seen = model.run_quantise(model.layer[name].detach(), model.quantised).cpu()
        state["layer." + name] = seen
        if not torch.equal(mxfp4.unpack(*mxfp4.pack(seen)), seen):
            raise SystemExit(f"{name}: MXFP4 does not hold what training saw")
    export.write(state, model.config, folder)


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--steps", type=int, default=10 ** 9, help="stop before this step")
    p.add_argument("--budget", type=float, default=480, help="seconds of training, compilation not counted")
    p.add_argument("--decay", type=float, default=150, help="seconds of falling rate at the end")
    p.add_argument("--decay-from", type=int, default=0, help="first step of the falling rate; with --steps, instead of --decay")
    p.add_argument("--quantise-from-step", type=int, help="first step with MXFP4 experts, instead of --quantise-from")
    p.add_argument("--warmup", type=int, default=200)
    p.add_argument("--rate", type=float, default=4e-3)
    p.add_argument("--quantise-from", type=float, default=0.4, help="share of the budget after which experts are MXFP4; 0 for a resumed run")
    p.add_argument("--rows", type=int, default=16)
    p.add_argument("--length", type=int, default=4096)
    p.add_argument("--seed", type=int, default=20)
    p.add_argument("--workers", type=int, default=15)
    p.add_argument("--device", default="cuda", help="cpu serves to try the script, no more")
    p.add_argument("--state", type=pathlib.Path, required=True)
    p.add_argument("--resume", type=pathlib.Path)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--tokenizer", default=str(HERE / "model/tokenizer.json"))
    return p.parse_args()


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main():
    options = arguments()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    config = Config()
    model = Model(config, options.seed)
    options.first = restore(model, options.resume) if options.resume else 0
    source = batches.stream(options.tokenizer, options.seed, options.rows, options.length, options.first, min(options.steps, options.first + 10 ** 6), options.workers)
    upcoming = next(source)  # workers are forked before CUDA starts
    device = options.device
    model.to(device)
    mask = create_block_mask
    if device == "cuda":
        model.compile()
        mask = torch.compile(create_block_mask)
    tables = rotary(config, options.length, device)
    matrices = [model.layer[n] for n in MUON]
    ids = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in ids]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(rest, lr=1.0, betas=(0.9, 0.97), eps=1e-9, weight_decay=0.0, fused=True)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {options.rows * options.length:,} tokens a step, {torch.cuda.get_device_name() if device == 'cuda' else device}", flush=True)
    log = open(options.state.with_suffix(".log"), "a")
    started, step, tokens, losses, saved, waited = None, options.first, 0, [], False, 0.0
    while step < options.steps:
        if step == options.first + 5:
            synchronise(device)
            started = time.time()
        elapsed = time.time() - started if started else 0.0
        if elapsed >= options.budget:
            break
        falling = step >= options.decay_from if options.decay_from else elapsed >= options.budget - options.decay
        if not saved and falling:
            save(model, options.state, step)
            saved = True
            print(f"state saved at step {step}, {elapsed:.0f} s", flush=True)
        late = options.quantise_from_step is not None and step >= options.quantise_from_step
        model.quantised.fill_(float(late or options.quantise_from_step is None and elapsed >= options.quantise_from * options.budget))
        batch = {k: torch.from_numpy(v).to(device) for k, v in upcoming.items()}
        masks = document_masks(batch["documents"], config.window, mask)
        share = rate_at(step, elapsed, options)
        loss, balance = model.loss(batch["ids"].long(), batch["targets"].long(), batch["weights"], batch["positions"].long(), masks, tables)
        (loss + 0.01 * balance).backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step(options.rate * share)
        for group in adam.param_groups:
            group["lr"] = options.rate * share
        adam.step()
        model.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        t = time.time()
        upcoming = next(source, None)
        waited += time.time() - t
        step, tokens = step + 1, tokens + options.rows * options.length
        if step % 100 == 0 or step == options.first + 5:
            mean = torch.stack(losses[-100:]).mean().item()
            elapsed = time.time() - (started or time.time())
            line = {"step": step, "loss": round(mean, 4), "balance": round(float(balance.detach()), 3), "seconds": round(elapsed, 1), "rate": round(share, 3),
                    "tokens_per_second": round(tokens / max(elapsed, 1)), "waited": round(waited, 1), "quantised": int(model.quantised)}
            log.write(json.dumps(line) + "\n")
            log.flush()
            if step % 500 == 0 or step < 400:
                print(json.dumps(line), flush=True)
        if upcoming is None:
            break
    synchronise(device)
    print(f"stopped at step {step}, {tokens:,} tokens, {time.time() - started:.0f} s, peak memory {torch.cuda.max_memory_allocated() / 2 ** 30:.1f} GiB", flush=True)
    model.quantised.fill_(1.0)
    if not saved:
        save(model, options.state, step)
    export_model(model, options.out)
    source.close()


if __name__ == "__main__":
    main()
