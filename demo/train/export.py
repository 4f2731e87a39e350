"""Hugging Face MXFP4 layout of a trained model: what the training saw, in the types of the published checkpoints."""

import hashlib
import json
import pathlib

import torch
from safetensors.torch import load_file, save_file

import mxfp4
from model import EXPERT_WEIGHTS, LAYER_SHAPES, Config

NAMES = {"attn_norm": "input_layernorm.weight", "mlp_norm": "post_attention_layernorm.weight", "sinks": "self_attn.sinks",
         "router": "mlp.router.weight", "router_bias": "mlp.router.bias", "gate_up": "mlp.experts.gate_up_proj",
         "gate_up_bias": "mlp.experts.gate_up_proj_bias", "down": "mlp.experts.down_proj", "down_bias": "mlp.experts.down_proj_bias"}
for _p in "qkvo":
    NAMES[_p], NAMES[_p + "_bias"] = f"self_attn.{_p}_proj.weight", f"self_attn.{_p}_proj.bias"
TOP = {"embed": "model.embed_tokens.weight", "head": "lm_head.weight", "norm": "model.norm.weight"}


def tensors(state: dict, config: Config) -> dict:
    """state: embed, head, norm, layer.NAME stacked, float32."""
    out = {name: state[key].to(torch.bfloat16).contiguous() for key, name in TOP.items()}
    for l in range(config.layers):
        for key, name in NAMES.items():
            full, value = f"model.layers.{l}.{name}", state["layer." + key][l]
            if key in EXPERT_WEIGHTS:
                out[full + "_blocks"], out[full + "_scales"] = mxfp4.pack(value)
            else:
                out[full] = value.to(torch.bfloat16).contiguous()
    return out


def config_json(c: Config, specials: dict) -> dict:
    return {
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0, "eos_token_id": specials["<|return|>"],
        "experts_per_token": c.active, "head_dim": c.head_dim, "hidden_act": "silu", "hidden_size": c.hidden,
        "initial_context_length": c.original_context, "initializer_range": 0.02, "intermediate_size": c.intermediate,
        "layer_types": ["full_attention" if l % 2 else "sliding_attention" for l in range(c.layers)], "max_position_embeddings": 131072,
        "model_type": "gpt_oss", "num_attention_heads": c.heads, "num_experts_per_tok": c.active, "num_hidden_layers": c.layers,
        "num_key_value_heads": c.kv_heads, "num_local_experts": c.experts, "output_router_logits": False, "pad_token_id": specials["<|endoftext|>"],
        "rms_norm_eps": c.eps, "rope_scaling": {"beta_fast": c.beta_fast, "beta_slow": c.beta_slow, "factor": c.factor,
                                                 "original_max_position_embeddings": c.original_context, "rope_type": "yarn", "truncate": False},
        "rope_theta": int(c.theta), "router_aux_loss_coef": 0.9, "sliding_window": c.window, "swiglu_limit": c.limit, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "transformers_version": "4.55.0.dev0", "use_cache": True, "vocab_size": c.vocabulary,
        "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
                                "quant_method": "mxfp4"}}


def write(state: dict, config: Config, folder: pathlib.Path) -> None:
    """Writes model.safetensors, the two configs and SHA256SUMS beside the tokenizer's files, which must be there."""
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    specials = {t["content"]: t["id"] for t in document["added_tokens"]}
    save_file({k: v.cpu() for k, v in tensors(state, config).items()}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config_json(config, specials), indent=2) + "\n")
    generation = {"bos_token_id": specials["<|startoftext|>"], "do_sample": True, "temperature": 0.2, "eos_token_id": [specials[s] for s in ("<|return|>", "<|endoftext|>", "<|call|>")],
                  "pad_token_id": specials["<|endoftext|>"], "transformers_version": "4.55.0.dev0"}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files))


def read(folder: pathlib.Path, device="cpu") -> tuple:
    """(state, config) back from an exported folder, experts dequantised, float32."""
    raw = load_file(folder / "model.safetensors", device=str(device))
    j = json.loads((folder / "config.json").read_text())
    config = Config(vocabulary=j["vocab_size"], layers=j["num_hidden_layers"], hidden=j["hidden_size"], intermediate=j["intermediate_size"],
                    heads=j["num_attention_heads"], kv_heads=j["num_key_value_heads"], head_dim=j["head_dim"], experts=j["num_local_experts"],
                    active=j["num_experts_per_tok"], window=j["sliding_window"])
    state = {key: raw[name].float() for key, name in TOP.items()}
    for key in LAYER_SHAPES:
        rows = []
        for l in range(config.layers):
            full = f"model.layers.{l}.{NAMES[key]}"
            rows.append(mxfp4.unpack(raw[full + "_blocks"], raw[full + "_scales"]) if key in EXPERT_WEIGHTS else raw[full].float())
        state["layer." + key] = torch.stack(rows)
    return state, config
