"""Checks the training model, the decoder and the export against transformers' GptOssForCausalLM (eager, float32).

    python3 train/check.py [--tokenizer FOLDER] [--length TOKENS]

Random weights, every bias and sink away from zero; one long and one short document, packed in a row for the training model."""

import argparse
import json
import pathlib
import shutil
import tempfile

import torch

import export
import mxfp4
from generate import Decoder
from model import Config, Model, document_masks, head_loss, rms_norm, rotary  # noqa: F401


def reference(state: dict, config: Config, folder: pathlib.Path, device):
    """transformers' model holding state (experts as float32 values [E, out, in])."""
    from transformers import GptOssConfig, GptOssForCausalLM
    j = json.loads((folder / "config.json").read_text())
    for key in ("quantization_config", "architectures", "model_type", "transformers_version", "torch_dtype"):
        j.pop(key, None)
    model = GptOssForCausalLM(GptOssConfig(**j, attn_implementation="eager")).float().eval()
    named = {name: state[key] for key, name in export.TOP.items()}
    for l in range(config.layers):
        for key, name in export.NAMES.items():
            value = state["layer." + key][l]
            named[f"model.layers.{l}.{name}"] = value.transpose(1, 2).contiguous() if key in export.EXPERT_WEIGHTS else value
    missing, unexpected = model.load_state_dict(named, strict=False)
    left = [m for m in missing if "rotary" not in m]
    if left or unexpected:
        raise SystemExit(f"names differ: missing {left}, unexpected {unexpected}")
    return model.to(device)


def randomised(config: Config, seed: int = 1) -> Model:
    """A model whose every bias, norm and sink is away from its start, so that none can be forgotten."""
    model = Model(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("norm", "bias", "sinks")):
                p.add_(torch.randn(p.shape, generator=generator) * 0.3)
        for name in export.EXPERT_WEIGHTS:
            model.layer[name].copy_(mxfp4.quantise(model.layer[name]))
        for p in model.parameters():
            p.copy_(p.to(torch.bfloat16).float())
    return model


def compare(name: str, a, b, limit: float) -> None:
    worst = (a - b).abs().max().item()
    print(f"{name}: largest difference {worst:.2e} (scale {b.abs().max().item():.2f})")
    if not worst <= limit:
        raise SystemExit(f"{name}: over {limit}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=pathlib.Path, default=pathlib.Path("model"))
    parser.add_argument("--length", type=int, default=700)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    config = Config()
    model = randomised(config).to(device)
    state = {k: v.detach() for k, v in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(options.tokenizer / name, folder)
        export.write(state, config, folder)
        back, again = export.read(folder, device)
        for key, value in state.items():
            if not torch.equal(back[key], value):
                raise SystemExit(f"export changes {key}")
        print("export and reading back: every value equal")
        theirs = reference(state, config, folder, device)
        generator = torch.Generator().manual_seed(2)
        first, second = options.length, options.length // 3
        ids = torch.randint(0, config.vocabulary, (first + second,), generator=generator).to(device)
        with torch.no_grad():
            want = torch.cat([theirs(ids[None, :first]).logits[0], theirs(ids[None, first:]).logits[0]])
            decoder = Decoder(state, config, device)
            got = torch.cat([decoder.all_logits(ids[:first].tolist()), decoder.all_logits(ids[first:].tolist())])
            compare("decoder against transformers", got, want, 2e-3)
            greedy = decoder.greedy([ids[:first].tolist(), ids[first:].tolist()], set(), 8)
            for row, prompt in zip(greedy, (ids[:first].tolist(), ids[first:].tolist())):
                full = decoder.all_logits(prompt + row)[len(prompt) - 1:-1]
                if full.argmax(-1).tolist() != row:
                    raise SystemExit("cached decoding differs from decoding at once")
            print("cached greedy decoding: equal to decoding at once")
            length = -(-(first + second) // 128) * 128
            row = torch.zeros(length, dtype=torch.long, device=device)
            row[:first + second] = ids
            positions = torch.cat([torch.arange(first), torch.arange(second), torch.zeros(length - first - second, dtype=torch.long)]).to(device)
            documents = torch.full((length,), -1, device=device)
            documents[:first], documents[first:first + second] = 0, 1
            for dtype, limit in ((torch.float32, 2e-3), (torch.bfloat16, float("inf"))):
                model.dtype = dtype
                if device == "cuda":
                    model.compile()
                x, _ = model.hidden_states(row[None], positions[None], document_masks(documents[None], config.window), rotary(config, 4096, device))
                mine = (rms_norm(x[0, :first + second], model.norm, config.eps) @ model.head.t()).float()
                compare(f"training model, {dtype}, two documents in a row", mine, want, limit)


if __name__ == "__main__":
    main()
