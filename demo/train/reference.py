"""Reference log-probabilities of an exported model by transformers, in float32 from the dequantised weights.

    python3 train/reference.py --model model --items eval/items.jsonl.gz --out eval/reference.json.gz

For a few held-out prompts, each with the model's own greedy answer: ids; positions; at each of those (the distribution
after reading ids[0..position]) the log-probability of the next id and the eight most likely ids with theirs."""

import argparse
import gzip
import json
import pathlib

import torch

from check import reference
from evaluate import load_items, run
import export

PER_SKILL = 2
LAST_OF_PROMPT = 8


def from_folder(folder: pathlib.Path, device):
    """The folder as transformers reads it, or None with a message: a check of the files, not of the numbers."""
    try:
        from transformers import GptOssForCausalLM, Mxfp4Config
        return GptOssForCausalLM.from_pretrained(folder, quantization_config=Mxfp4Config(dequantize=True), dtype=torch.float32,
                                                 attn_implementation="eager").float().eval().to(device)  # it leaves dequantised experts in BF16
    except Exception as error:  # an optional check: its failure is printed
        print("transformers' own loading was not checked:", repr(error)[:300])
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--items", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen, taken = [], {}
    for item in load_items(options.items):
        if taken.setdefault(item["skill"], 0) < PER_SKILL:
            taken[item["skill"]] += 1
            chosen.append(item)
    state, config = export.read(options.model, device)
    model, loaded = reference(state, config, options.model, device), from_folder(options.model, device)
    records, worst = [], 0.0
    for item, prompt, made, _, _ in run(options.model, chosen, device):
        ids = prompt + made
        with torch.no_grad():
            logprobs = model(torch.tensor([ids], device=device)).logits[0].float().log_softmax(-1)
            if loaded is not None:
                other = loaded(torch.tensor([ids], device=device)).logits[0].float().log_softmax(-1)
                worst = max(worst, (other - logprobs).abs().max().item())
        positions = list(range(max(0, len(prompt) - LAST_OF_PROMPT), len(ids) - 1))
        rows = logprobs[positions]
        top = rows.topk(8, dim=-1)
        following = rows.gather(1, torch.tensor([[ids[p + 1]] for p in positions], device=device))[:, 0]
        short = lambda values: [round(v, 6) for v in values]
        records.append({"id": item["id"], "ids": ids, "prompt": len(prompt), "positions": positions, "next_logprobs": short(following.tolist()),
                        "top_ids": top.indices.tolist(), "top_logprobs": [short(r) for r in top.values.tolist()]})
    text = json.dumps({"dtype": "float32", "by": "transformers GptOssForCausalLM, eager attention", "prompts": records}, separators=(",", ":"))
    with open(options.out, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9, mtime=0, filename="") as z:
        z.write(text.encode())
    print(options.out, len(records), "prompts")
    if loaded is not None:
        print(f"transformers' own loading of the folder: largest difference of a log-probability {worst:.2e}")


if __name__ == "__main__":
    main()
