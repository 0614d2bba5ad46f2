"""Writes bunny-core/tests/fixtures/pieces: small models of SentencePiece, and the ids that SentencePiece
itself and transformers 4 give dirty texts.

    bpe       tokenizer.model, trained here on made text, without tokenizer.json: as Llama, MiniCPM and Phi-3
              have them (bytes for what has no piece, all spaces kept, one put in front)
    bpe-new   the same pieces under `legacy: false`: no space behind special tokens
    unigram   a model of the other kind, which is refused

`ids` is what AutoTokenizer of transformers 4.57.6 gives (its class puts <s> in front), `pieces` what
SentencePiece does. It knows no special tokens in a text: there is none where a text holds a symbol that
the model was trained to keep whole, which transformers cuts out first, and none where the two part: under
`legacy: false` transformers puts no space in front of a text that begins with one. Where transformers takes a text's <s> for the token, `pieces` is
what the same text means when somebody types it.
"""

import io
import json
import random
import shutil
from pathlib import Path

import sentencepiece
import transformers
from transformers import AutoTokenizer

assert transformers.__version__.startswith("4."), "what Llama's class does is transformers 4's"

OUT = Path(__file__).resolve().parents[2] / "bunny-core/tests/fixtures/pieces"
WHOLE = ["<|assistant|>", "<\u7528\u6237>"]

NOUNS = "house tree dog cat river box bird street sky picture cup table horse boat".split()
WORDS = "small red blue green old new two three near under behind beside".split()
LINES = ["Is it raining? No, it isn't; they're dry.", "def f(x):\n    return x * 2\n", "1999, 3.14 and 10,000",
         "Gr\u00fc\u00dfe aus K\u00f6ln", "\u732b\u3068\u72ac", "\u043a\u043e\u0448\u043a\u0430 \u0438 \u0441\u043e\u0431\u0430\u043a\u0430"]

DIRTY = [
    "", " ", "   ", "a", " a", "a ", "  two  spaces  ", "\t", "\ttab\tin\tit", "\n", "\n\n\nthree", "\r\nwindows\r\n",
    "A small red house stands near a tree.", "USER: What is in the picture? ASSISTANT:", "x" * 300, " " * 40 + "deep",
    "\u00a0no-break\u00a0space", "\u3000wide", "zero\u200bwidth", "\ufeffmark", "\u2581a low line of its own\u2581",
    "caf\u00e9 cafe\u0301", "\u212b \ufb01 \u2460", "\U0001f431", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0645\u0631\u062d\u0628\u0627", "\ud55c\uae00 \u1112\u1161\u11ab", "\u732b\u3068\u72ac", "\x00nothing\x00", "\x07\x1b[31m", "\ufffd", "\U0010ffff",
    "<s>", "</s>", "<unk>", "a<s>b", "end</s>USER: next", "<0x41>", "<0x0A>x", "< s >", "<s", "<image>",
    "<|assistant|>", "say <|assistant|> no", "<\u7528\u6237>\u4f60\u597d", "a<|assistant|>b c",
    "10,000 + 3.14 = ?", "don't", "DON'T", "snake_case CamelCase kebab-case", "https://a.b/c?d=e&f=g#h", "{\"a\": [1, 2]}",
]


def text():
    chance = random.Random(1)
    for _ in range(600):
        yield " ".join(["the", chance.choice(WORDS), chance.choice(NOUNS), chance.choice(["is", "stands"]),
                        chance.choice(WORDS), "the", chance.choice(NOUNS)])
    for line in LINES * 20:
        yield line


def dirty():
    chance = random.Random(2)
    yield from DIRTY
    pools = [range(32, 127), range(0, 32), range(0xA0, 0x250), range(0x400, 0x460), range(0x4E00, 0x4E40),
             range(0x1F600, 0x1F640), [0x20, 0x20, 0x0A, 0x2581, 0x3C, 0x73, 0x3E, 0x2F]]
    for _ in range(120):
        pool = chance.choice(pools) if chance.random() < 0.5 else sum(map(list, pools), [])
        yield "".join(chr(chance.choice(pool)) for _ in range(chance.randrange(1, 24)))


def train(kind):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=text(), model_writer=out, model_type=kind, vocab_size=460, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.99,
        user_defined_symbols=WHOLE, num_threads=1, minloglevel=2, hard_vocab_limit=False,
    )
    return out.getvalue()


def write(name, model, legacy):
    folder = OUT / name
    folder.mkdir(parents=True)
    (folder / "tokenizer.model").write_bytes(model)
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
              "add_bos_token": True, "add_eos_token": False, "legacy": legacy}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    whole = AutoTokenizer.from_pretrained(folder)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert whole.is_fast and len(whole) == pieces.get_piece_size(), name
    texts, parted = [], []
    for given in dirty():
        ids = whole(given)["input_ids"]
        own = None if any(symbol in given for symbol in WHOLE) else pieces.encode(given)
        if own is not None and ids != [1, *own] and not any(token in given for token in ("<s>", "</s>", "<unk>")):
            parted.append(given)
            own = None
        texts.append({"text": given, "ids": ids, "pieces": own,
                      "decoded": whole.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)})
    print(f"{name}: {len(whole)} pieces, {len(texts)} texts; SentencePiece and transformers part in {parted}")
    return {"length": len(whole), "texts": texts}


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    bpe = train("bpe")
    expected = {"bpe": write("bpe", bpe, True), "bpe-new": write("bpe-new", bpe, False)}
    (OUT / "unigram").mkdir()
    (OUT / "unigram/tokenizer.model").write_bytes(train("unigram"))
    shutil.copy(OUT / "bpe/tokenizer_config.json", OUT / "unigram")
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
