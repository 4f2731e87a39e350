"""Exact match of an exported model on the held-out items, by skill.

    python3 train/evaluate.py --model model --items eval/items.jsonl.gz [--samples out.jsonl]"""

import argparse
import collections
import gzip
import json
import pathlib
import re
import time

import torch

import export
from batches import Encoder
from generate import Decoder

import sys
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from data.harmony import render_prompt  # noqa: E402

MOST_NEW = 256
MESSAGE = re.compile(r"^(?: to=functions\.(?P<to>[^<]*))?<\|channel\|>(?P<channel>[a-z]+)(?: <\|constrain\|>json)?<\|message\|>(?P<text>.*?)<\|(?P<end>end|return|call)\|>", re.S)


def parse(text: str) -> dict:
    """The messages after <|start|>assistant: {"analysis", "final"} or {"analysis", "call", "arguments"}; {} if malformed."""
    out, rest = {"analysis": ""}, text
    while rest:
        m = MESSAGE.match(rest)
        if not m:
            return {}
        rest = rest[m.end():]
        if m["end"] == "call":
            return out | {"call": m["to"], "arguments": m["text"]} if m["to"] else {}
        if m["channel"] == "analysis" and m["end"] == "end":
            out["analysis"] += m["text"]
        elif m["channel"] == "final" and m["end"] == "return":
            return out | {"final": m["text"]}
        if not rest.startswith("<|start|>assistant"):
            return {}
        rest = rest[len("<|start|>assistant"):]
    return {}


def matches(expect: dict, got: dict) -> bool:
    try:
        if expect["type"] == "call":
            return got.get("call") == expect["name"] and json.loads(got["arguments"]) == expect["arguments"]
        if expect["type"] == "json":
            return json.loads(got["final"]) == expect["value"]
    except (ValueError, KeyError):
        return False
    return got.get("final") in expect["any_of"]


def run(folder: pathlib.Path, items: list, device, batch_tokens: int = 120000) -> list:
    """For each item: (item, prompt ids, continuation text, right)."""
    encoder = Encoder(str(folder / "tokenizer.json"))
    state, config = export.read(folder, device)
    decoder = Decoder(state, config, device)
    stops = {encoder.special[s] for s in ("<|return|>", "<|call|>", "<|endoftext|>")}
    prompts = [(i, encoder.encode(render_prompt(item["request"], item["date"]))) for i, item in enumerate(items)]
    prompts.sort(key=lambda p: len(p[1]))
    results, at = [None] * len(items), 0
    while at < len(prompts):
        batch = [prompts[at]]
        at += 1
        # Attention scores are batch x heads x length^2 float32: bound both.
        while at < len(prompts) and (len(batch) + 1) * len(prompts[at][1]) <= batch_tokens and (len(batch) + 1) * len(prompts[at][1]) ** 2 <= 4e8:
            batch.append(prompts[at])
            at += 1
        for (i, ids), made in zip(batch, decoder.greedy([p for _, p in batch], stops, MOST_NEW)):
            text = encoder.tokenizer.decode(made, skip_special_tokens=False)
            if items[i]["request"].get("reasoning_effort") == "none":
                text = "<|channel|>final<|message|>" + text
            results[i] = (items[i], ids, made, text, matches(items[i]["expect"], parse(text)))
    return results


def table(results: list) -> str:
    groups = collections.defaultdict(list)
    for item, _, _, _, right in results:
        groups[item["skill"]].append(right)
    lines = [f"| {skill} | {len(v)} | {sum(v)} | {sum(v) / len(v):.3f} |" for skill, v in groups.items()]
    every = [r[4] for r in results]
    lines.append(f"| **all** | {len(every)} | {sum(every)} | **{sum(every) / len(every):.4f}** |")
    return "\n".join(["| skill | items | right | exact match |", "|---|---|---|---|"] + lines)


def analysis_lengths(results: list) -> str:
    lengths = collections.defaultdict(list)
    for item, _, _, text, _ in results:
        lengths[item["request"]["reasoning_effort"]].append(len(parse(text).get("analysis", "")))
    return "mean analysis, characters: " + ", ".join(f"{k} {sum(v) / len(v):.0f}" for k, v in sorted(lengths.items()))


def load_items(path: str) -> list:
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--items", required=True)
    parser.add_argument("--samples", help="write every continuation there")
    options = parser.parse_args()
    started = time.time()
    results = run(options.model, load_items(options.items), "cuda" if torch.cuda.is_available() else "cpu")
    print(table(results))
    print(analysis_lengths(results))
    print(f"{time.time() - started:.1f} s")
    if options.samples:
        with open(options.samples, "w", encoding="utf-8") as f:
            for item, _, _, text, right in results:
                f.write(json.dumps({"id": item["id"], "right": right, "user": item["request"]["messages"][-1]["content"][-400:], "got": text,
                                    "expect": item["expect"]}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
