"""Training batches: batch i is a function of the seed and i alone, so a run can stop and go on anywhere."""

import multiprocessing
import pathlib
import re
import sys

import numpy
import regex

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from data import conversation, mixture  # noqa: E402

PROMPT_WEIGHT = 0.05
SPECIAL = re.compile(r"(<\|[a-z]+\|>)")


class Encoder:
    """The model's tokenizer with a memory of pieces: the same ids as the file's, several times faster on this text."""

    def __init__(self, path: str):
        from tokenizers import Tokenizer
        self.tokenizer = Tokenizer.from_file(path)
        import json
        document = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        self.pattern = regex.compile(document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"])
        self.special = {t["content"]: t["id"] for t in document["added_tokens"]}
        self.pieces = {}

    def plain(self, text: str) -> list:
        out, pieces = [], self.pieces
        for piece in self.pattern.findall(text):
            ids = pieces.get(piece)
            if ids is None:
                ids = self.tokenizer.encode(piece, add_special_tokens=False).ids
                if len(pieces) < 300000:
                    pieces[piece] = ids
            out += ids
        return out

    def encode(self, text: str) -> list:
        out = []
        for part in SPECIAL.split(text):
            if part in self.special:
                out.append(self.special[part])
            elif part:
                out += self.plain(part)
        return out


class Weights:
    """Loss weights of a prompt: a little on what others wrote; nothing on past answers, or their text alone if it counts."""

    def __init__(self, encoder: Encoder):
        s = encoder.special
        self.start, self.message, self.end = s["<|start|>"], s["<|message|>"], s["<|end|>"]
        self.assistant = encoder.plain("assistant")[0]
        self.final = encoder.plain("final")[0]

    def prompt(self, ids: list, history: float) -> list:
        weights, mine, inside = [], False, False
        for i, t in enumerate(ids):
            if t == self.start:
                mine, inside = i + 1 < len(ids) and ids[i + 1] == self.assistant, False
            if not mine:
                weights.append(PROMPT_WEIGHT)
            else:
                # The end of a past answer is <|end|>, that of a new one <|return|>: it never counts.
                weights.append(history if inside and t != self.end else 0.0)
                if t == self.message and ids[i - 1] == self.final:
                    inside = True
        return weights


def document(encoder: Encoder, rule: Weights, c: conversation.Conversation) -> tuple:
    """(ids, weights): weights[i] is the weight of predicting ids[i]."""
    ids = encoder.encode(c.prompt())
    weights = rule.prompt(ids, c.history_weight)
    done = encoder.encode(c.completion)
    ids, weights = ids + done, weights + [1.0] * len(done)
    if c.continuation:
        shown, answer = encoder.encode(c.continuation[0]), encoder.encode(c.continuation[1])
        ids, weights = ids + shown + answer, weights + [0.0] * len(shown) + [1.0] * len(answer)
    return ids, weights


def pack(documents: list, rows: int, length: int) -> dict:
    """Rows of whole documents, longest first into the fullest row that has room; what fits nowhere is dropped."""
    size = rows * length
    ids, targets = numpy.zeros(size, numpy.int32), numpy.zeros(size, numpy.int32)
    weights, positions = numpy.zeros(size, numpy.float32), numpy.zeros(size, numpy.int32)
    numbers = numpy.full(size, -1, numpy.int32)
    used = [0] * rows
    for n, (tokens, w) in enumerate(sorted(documents, key=lambda d: -len(d[0]))):
        fitting = [r for r in range(rows) if used[r] + len(tokens) <= length]
        if not fitting:
            continue
        row = max(fitting, key=lambda r: used[r])
        a = row * length + used[row]
        b = a + len(tokens)
        ids[a:b], positions[a:b], numbers[a:b] = tokens, numpy.arange(len(tokens)), n
        targets[a:b - 1], weights[a:b - 1] = tokens[1:], w[1:]
        used[row] += len(tokens)
    shape = lambda x: x.reshape(rows, length)
    return {"ids": shape(ids), "targets": shape(targets), "weights": shape(weights), "positions": shape(positions), "documents": shape(numbers)}


_STATE = {}


def _start(path: str, seed: int, rows: int, length: int) -> None:
    encoder = Encoder(path)
    _STATE.update(encoder=encoder, rule=Weights(encoder), seed=seed, rows=rows, length=length)


def make(index: int) -> dict:
    """Batch number index."""
    rows, length = _STATE["rows"], _STATE["length"]
    rng = conversation.from_seed(index, f"train/{_STATE['seed']}")
    documents, total = [], 0
    while total < rows * length * 0.985:
        ids, weights = document(_STATE["encoder"], _STATE["rule"], mixture.conversation(rng))
        if len(ids) <= length:
            documents.append((ids, weights))
            total += len(ids)
    return pack(documents, rows, length)


def stream(path: str, seed: int, rows: int, length: int, first: int, last: int, workers: int):
    """Batches first..last-1 in order, made ahead by worker processes."""
    if workers == 0:
        _start(path, seed, rows, length)
        yield from map(make, range(first, last))
        return
    context = multiprocessing.get_context("fork")
    with context.Pool(workers, _start, (path, seed, rows, length)) as pool:
        # A bounded look-ahead: imap alone would run through the whole range.
        pending, ahead, index = [], 4 * workers, first
        while index < last or pending:
            while index < last and len(pending) < ahead:
                pending.append(pool.apply_async(make, (index,)))
                index += 1
            yield pending.pop(0).get()
