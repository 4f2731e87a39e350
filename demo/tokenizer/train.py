"""Trains the demo model's tokenizer on generated text and writes it in Hugging Face's form.

    python3 tokenizer/train.py --out model        (from demo/; needs the package tokenizers)

Byte-level BPE with o200k's pre-tokenizer, all 256 bytes, ids in merge order, then the 21 named specials of
o200k_harmony in their order. While training, digits are cut into pieces of their own, so that no token holds two of
them: sums are then written digit by digit. Encoding uses the o200k pattern alone and gives the same result, because a
piece of two digits has no merge."""

import argparse
import json
import pathlib
import re
import sys

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from data import conversation, mixture  # noqa: E402

VOCABULARY = 2048
SPECIALS = ["<|startoftext|>", "<|endoftext|>", "<|reserved_200000|>", "<|reserved_200001|>", "<|return|>", "<|constrain|>",
            "<|reserved_200004|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|reserved_200009|>",
            "<|reserved_200010|>", "<|reserved_200011|>", "<|call|>"] + [f"<|reserved_{n}|>" for n in range(200013, 200018)] + ["<|endofprompt|>"]
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join([r"[^\r\n\p{L}\p{N}]?" + _UPPER + "*" + _LOWER + "+" + _CONTRACTION, r"[^\r\n\p{L}\p{N}]?" + _UPPER + "+" + _LOWER + "*" + _CONTRACTION,
                    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def texts(conversations: int):
    rng = conversation.from_seed(0, "tokenizer")
    for _ in range(conversations):
        c = mixture.conversation(rng)
        text = c.prompt() + c.completion + "".join(c.continuation)
        yield from (part for part in re.split(r"<\|[a-z]+\|>", text) if part)


def learn(conversations: int) -> list:
    """The ordinary tokens as printable byte strings, in id order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    size = VOCABULARY - len(SPECIALS)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts(conversations), trainer)
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) != size:
        raise SystemExit(f"learnt {len(vocabulary)} tokens, wanted {size}: generate more text")
    return sorted(vocabulary, key=vocabulary.get)


def document(tokens: list) -> dict:
    """tokenizer.json. The merges are every split of every token into two tokens, by rank, as in o200k's own file."""
    known = {t: i for i, t in enumerate(tokens)}
    merges = [[t[:i], t[i:]] for t in tokens[256:] for i in range(1, len(t)) if t[:i] in known and t[i:] in known]
    added = [{"id": len(tokens) + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, s in enumerate(SPECIALS)]
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": True, "vocab": known, "merges": merges}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--conversations", type=int, default=40000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "tokenizer.json"
    path.write_text(json.dumps(document(learn(options.conversations)), ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>",
              "model_max_length": 131072, "clean_up_tokenization_spaces": False}
    (options.out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    print("wrote", path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
