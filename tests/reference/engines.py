"""Ids of random texts under the five makes of tokenizers, as digests: bunny-core/tests/fixtures/words/engines.json.

The tokenizers library of PyPI cuts words by Oniguruma's regular expressions; so does this project natively, and in a
browser tab by expressions in Rust. All three are held to these digests: `bunny-core/tests/words.rs`,
`bunny-web/checks/words.mjs`. Run after words.py:

    python tests/reference/engines.py
"""

import json
from pathlib import Path

from transformers import AutoTokenizer

WORDS = Path(__file__).parents[2] / "bunny-core/tests/fixtures/words"
MAKES = ["codegen", "codegen-json", "qwen2", "sentencepiece", "tiktoken"]

ALPHABET = {
    "contractions": ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "\u2019s", "'\u017f"],
    "punctuation": "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "spaces": [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085", "\u200b", "\ufeff"],
    # Letters, digits and marks of several scripts, those of other planes among them.
    "scripts": [
        [0xC0, 0x24F], [0x370, 0x373], [0x391, 0x3A1], [0x3B1, 0x3C9], [0x400, 0x481], [0x5D0, 0x5EA], [0x620, 0x64A],
        [0x660, 0x669], [0x904, 0x939], [0x966, 0x96F], [0xE01, 0xE30], [0x1100, 0x1112], [0x3041, 0x3096],
        [0x30A1, 0x30FA], [0x4E00, 0x9FFF], [0xAC00, 0xD7A3], [0x1D400, 0x1D454], [0x1F300, 0x1F64F], [0x20000, 0x2A6DF],
        [0x300, 0x36F], [0xFF10, 0xFF19], [0xFF21, 0xFF3A],
    ],
    "others": [
        "\u00b2", "\u00bd", "\u2167", "\u2460", "\u200d", "\ufe0f", "e\u0301", "\U0001f469\u200d\U0001f52c", "\U0001f1e9\U0001f1ea",
        "\u01c5", "\u02b0", "\u00aa", "\u0130", "\u1e9e", "\u212a", "\u0000", "\u007f", "\ufffd", "\ue000", "USER:", "ASSISTANT:",
    ],
}
PARTS, TEXTS = 20, 1000

MASK = (1 << 64) - 1


class Draws:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, count):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % count

    def of(self, choices):
        return choices[self.below(len(choices))]

    def within(self, first, last):
        return chr(first + self.below(last - first + 1))

    def several(self, most, one):
        return "".join(one() for _ in range(1 + self.below(most)))


def random_text(seed):
    draws = Draws(seed)

    def of_a_script():
        script = draws.of(ALPHABET["scripts"])
        return draws.several(4, lambda: draws.within(*script))

    kinds = [
        lambda: " ",
        lambda: draws.several(8, lambda: draws.within(97, 122)),
        lambda: draws.several(5, lambda: draws.within(48, 57)),
        lambda: draws.of(ALPHABET["contractions"]),
        lambda: draws.several(3, lambda: draws.of(ALPHABET["punctuation"])),
        lambda: draws.of(ALPHABET["spaces"]),
        of_a_script,
        lambda: draws.of(ALPHABET["others"]),
        lambda: draws.several(3, lambda: draws.within(65, 90)),
    ]
    return draws.several(12, lambda: draws.of(kinds)())


def digest(tokenizer, part):
    """FNV-1a over ids, and -1 behind each text, as words of 32 bits."""
    found = 0x811C9DC5
    for at in range(part * TEXTS, (part + 1) * TEXTS):
        for token in [*tokenizer(random_text(at))["input_ids"], -1]:
            found = ((found ^ (token & 0xFFFFFFFF)) * 0x01000193) & 0xFFFFFFFF
    return found


if __name__ == "__main__":
    digests = {}
    for make in MAKES:
        tokenizer = AutoTokenizer.from_pretrained(WORDS / make, use_fast=True)
        digests[make] = [digest(tokenizer, part) for part in range(PARTS)]
    fixture = {"texts": TEXTS, "alphabet": ALPHABET, "digests": digests}
    (WORDS / "engines.json").write_text(json.dumps(fixture) + "\n", encoding="utf-8")
