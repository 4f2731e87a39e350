"""Opens what `hearth convert` writes in the libraries that own the formats, and compares every value.

    python conformance/formats/check.py HEARTH     # path of the binary; needs requirements.txt, no GPU

Exits with status 1 if anything differs. The models are those of testdata/tiny-a: random weights, real layouts.
"""

import glob
import importlib.metadata
import pathlib
import subprocess
import sys
import tempfile

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, Mxfp4Config

MODELS = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "tiny-a"
failed = 0


def check(what, ok):
    global failed
    failed += not ok
    print("ok   " if ok else "FAIL ", what, flush=True)


def convert(src, to, *flags):
    """Converts and returns the destination."""
    dst = pathlib.Path(work) / f"{pathlib.Path(src).name}-{to}{'-'.join(flags)}"
    if not dst.exists():
        subprocess.run([hearth, "convert", str(src), str(dst), "--to", to, *flags], check=True, stdout=subprocess.DEVNULL)
    return dst


def tensors(folder):
    """Every tensor of the safetensors files in a folder."""
    out = {}
    for name in glob.glob(str(folder) + "/*.safetensors"):
        with safe_open(name, "pt") as f:
            out.update((k, f.get_tensor(k)) for k in f.keys())
    return out


def same(a, b):
    """Equal in every bit; dtypes may differ only where the values do not."""
    if a.dtype != b.dtype:
        a, b = a.float(), b.float()
    bits = {2: torch.int16, 4: torch.int32}.get(a.element_size(), torch.uint8)
    return a.shape == b.shape and bool((a.contiguous().view(bits) == b.contiguous().view(bits)).all())


def same_states(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)


def dequantised(t, name):
    """bitsandbytes' own reading of a 4-bit tensor and the tensors beside it."""
    side = {k[len(name) + 1 :]: v for k, v in t.items() if k.startswith(name + ".")}
    state = bnb.QuantState.from_dict(side, device=torch.device("cpu"))
    return bnb.dequantize_4bit(t[name], state)


def load(folder, **kw):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, output_loading_info=True, **kw)
    clean = not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval(), clean


def logits(model):
    ids = torch.tensor([[600, 5, 17, 42, 99, 310, 7, 608]])
    with torch.no_grad():
        return model(ids).logits


def check_transformers():
    source, _ = load(MODELS / "hf-mxfp4", quantization_config=Mxfp4Config(dequantize=True))
    for src, to in [("hf-mxfp4", "hf-bf16"), ("openai-original", "hf-bf16")]:
        model, clean = load(convert(MODELS / src, to))
        check(f"transformers loads {src} -> {to}, no key missing, none left over", clean)
        check("  all weights are those of hf-mxfp4 dequantised by transformers", same_states(model, source))
        check("  logits are equal", same(logits(model), logits(source)))
    folder = convert(MODELS / "openai-original", "hf-mxfp4")
    model, clean = load(folder, quantization_config=Mxfp4Config(dequantize=True))
    check("transformers loads openai-original -> hf-mxfp4 and dequantises it alike", clean and same_states(model, source))


def experts(t, layer, projection):
    """An Unsloth layer's experts, dequantised by bitsandbytes: [experts, out, in]."""
    name = f"model.layers.{layer}.mlp.experts.{projection}s.{{}}.weight"
    n = sum(1 for e in range(1000) if name.format(e) in t)
    return torch.stack([dequantised(t, name.format(e)) for e in range(n)])


def check_bitsandbytes():
    source = tensors(MODELS / "unsloth-nf4-dq")
    fused = tensors(convert(MODELS / "unsloth-nf4-dq", "fused-nf4"))
    dense = tensors(convert(MODELS / "unsloth-nf4-dq", "hf-bf16"))
    nested = tensors(convert(MODELS / "unsloth-nf4-dq", "fused-nf4", "--keep-nested"))
    for layer in range(3):
        for projection in ("gate_up_proj", "down_proj"):
            name = f"model.layers.{layer}.mlp.experts.{projection}"
            want = experts(source, layer, projection)
            check(f"bitsandbytes dequantises fused {name} to the experts' bits", same(dequantised(fused, name), want))
            check("  hf-bf16 holds dequantize_4bit's bits, transposed", same(dense[name], want.transpose(1, 2)))
    try:
        dequantised(nested, "model.layers.0.mlp.experts.down_proj")
        check("bitsandbytes refuses nested scales of several experts", False)
    except (AssertionError, KeyError):
        check("bitsandbytes refuses nested scales of several experts", True)


def check_quantisation():
    dense = tensors(convert(MODELS / "hf-mxfp4", "hf-bf16"))
    for kind in ("nf4", "nf4-dq"):
        got = tensors(convert(MODELS / "hf-mxfp4", "unsloth-bnb", "--experts", kind))
        codes = scales = values = True
        for layer in range(3):
            for projection in ("gate_up_proj", "down_proj"):
                stack = dense[f"model.layers.{layer}.mlp.experts.{projection}"].transpose(1, 2).contiguous()
                for e, w in enumerate(stack):
                    name = f"model.layers.{layer}.mlp.experts.{projection}s.{e}.weight"
                    packed, state = bnb.quantize_4bit(w, quant_type="nf4", compress_statistics=kind == "nf4-dq")
                    codes &= same(got[name], packed)
                    scales &= same(got[name + ".absmax"], state.absmax)
                    if kind == "nf4-dq":
                        scales &= same(got[name + ".nested_absmax"], state.state2.absmax)
                    values &= same(dequantised(got, name), bnb.dequantize_4bit(packed, state))
        check(f"--experts {kind}: codes are quantize_4bit's on this CPU", codes)
        check(f"--experts {kind}: scales are quantize_4bit's on this CPU", scales)
        check(f"--experts {kind}: values are quantize_4bit's on this CPU", values)


def check_gguf():
    path = convert(MODELS / "hf-mxfp4", "gguf") / "model.gguf"
    reader = gguf.GGUFReader(path)
    dense = tensors(convert(MODELS / "hf-mxfp4", "hf-bf16"))
    by_name = {t.name: t for t in reader.tensors}
    check("gguf: architecture and file type", reader.fields["general.architecture"].contents() == "gpt-oss" and reader.fields["general.file_type"].contents() == 38)

    def values(name):
        t = by_name.pop(name)
        v = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        return torch.from_numpy(v.reshape([int(n) for n in reversed(t.shape)]))

    def equal(name, want):  # ggml knows no -0
        return bool((values(name) == want.float()).all())

    names = {"attn_norm.weight": "input_layernorm.weight", "post_attention_norm.weight": "post_attention_layernorm.weight", "attn_sinks.weight": "self_attn.sinks"}
    for ours, theirs in (("attn_q", "q_proj"), ("attn_k", "k_proj"), ("attn_v", "v_proj"), ("attn_output", "o_proj")):
        for part in ("weight", "bias"):
            names[f"{ours}.{part}"] = f"self_attn.{theirs}.{part}"
    for part in ("weight", "bias"):
        names[f"ffn_gate_inp.{part}"] = f"mlp.router.{part}"
    ok = equal("token_embd.weight", dense["model.embed_tokens.weight"]) & equal("output.weight", dense["lm_head.weight"]) & equal("output_norm.weight", dense["model.norm.weight"])
    for layer in range(3):
        for ours, theirs in names.items():
            ok &= equal(f"blk.{layer}.{ours}", dense[f"model.layers.{layer}.{theirs}"])
        p = f"model.layers.{layer}.mlp.experts."
        gate_up, bias = dense[p + "gate_up_proj"].transpose(1, 2), dense[p + "gate_up_proj_bias"]
        for first, half in enumerate(("gate", "up")):
            ok &= equal(f"blk.{layer}.ffn_{half}_exps.weight", gate_up[:, first::2]) & equal(f"blk.{layer}.ffn_{half}_exps.bias", bias[:, first::2])
        ok &= equal(f"blk.{layer}.ffn_down_exps.weight", dense[p + "down_proj"].transpose(1, 2)) & equal(f"blk.{layer}.ffn_down_exps.bias", dense[p + "down_proj_bias"])
    check("gguf: every tensor has the values of hf-bf16", ok)
    check("gguf: no tensor is left over", not by_name)

    back = Tokenizer.from_file(str(convert(path, "hf-mxfp4") / "tokenizer.json"))
    own = Tokenizer.from_file(str(MODELS / "hf-mxfp4" / "tokenizer.json"))
    text = "The other buffer, in the end: 12345 words<|end|> and\n\n  spaces; été 好 <|start|>user"
    check("tokenizers: the tokenizer.json made from a GGUF encodes alike", back.encode(text).ids == own.encode(text).ids)


if len(sys.argv) != 2:
    sys.exit(__doc__)
hearth = str(pathlib.Path(sys.argv[1]).resolve())
print(", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("torch", "transformers", "safetensors", "bitsandbytes", "gguf", "tokenizers")))
with tempfile.TemporaryDirectory() as work:
    check_bitsandbytes()
    check_quantisation()
    check_gguf()
    check_transformers()
sys.exit(failed > 0)
