"""Small vocabularies that tokenise any text: learnt from one paragraph, the same every time.

Two kinds, as in real files: SentencePiece (`llama`: scores, `▁` for a space, `<0xNN>` byte tokens) and byte-level BPE
(`gpt2`: merges over the printable stand-ins of the 256 bytes).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

CORPUS = (
    "the quick brown fox jumps over the lazy dog while the old man and the sea remember that time and tide wait "
    "for no man and that a house in the north stands on a hill over the river where the water is cold and clear "
    "there was once a small machine that read what people wrote and wrote what people read and it was happy"
)
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Values of `tokenizer.ggml.token_type`."""
SPACE = "▁"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Vocabulary:
    """`merges` is empty for SentencePiece, `scores` for byte-level BPE."""

    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[tuple[str, str]]
    bos: int
    eos: int

    def spoken(self) -> list[int]:
        """Ids of the tokens that are plain ASCII text: what a tiny model is made to say."""
        return [
            index
            for index, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True))
            if kind == NORMAL and token.replace(SPACE, "").replace("Ġ", "").isascii()
        ]


def sentencepiece(merges: int = 140) -> Vocabulary:
    """Unknown, BOS, EOS, the 256 bytes, the printable ASCII characters and `merges` learnt pieces."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
    scores = [0.0] * len(tokens)
    letters = [SPACE, *(chr(code) for code in range(33, 127))]
    pieces = [left + right for left, right in learn_merges([SPACE + word for word in CORPUS.split()], merges)]
    for rank, piece in enumerate(pieces):  # a higher score is merged first
        tokens.append(piece)
        types.append(NORMAL)
        scores.append(-float(rank))
    for letter in letters:
        tokens.append(letter)
        types.append(NORMAL)
        scores.append(-1000.0)
    return Vocabulary(tokens, types, scores, [], bos=1, eos=2)


def byte_level(merges: int = 140) -> Vocabulary:
    """The ChatML specials, the 256 bytes in their printable form and `merges` learnt pieces."""
    stand_ins = printable_bytes()
    words = ["".join(stand_ins[byte] for byte in f" {word}".encode()) for word in CORPUS.split()]
    learnt = learn_merges(words, merges)
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *stand_ins, *(left + right for left, right in learnt)]
    types = [CONTROL] * 3 + [NORMAL] * (len(tokens) - 3)
    return Vocabulary(tokens, types, [], learnt, bos=1, eos=2)


def printable_bytes() -> list[str]:
    """GPT-2's mapping of the 256 bytes to characters that print: itself where it prints, else 256 and upwards."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    shifted = iter(range(256, 512))
    return [chr(byte if byte in printable else next(shifted)) for byte in range(256)]


def learn_merges(words: list[str], count: int) -> list[tuple[str, str]]:
    """Byte-pair encoding as it was published: join the most frequent neighbours, `count` times over."""
    spelt = Counter(tuple(word) for word in words)
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in spelt.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = Counter({_join(word, best): times for word, times in spelt.items()})
    return merges


def _join(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return tuple(joined)
