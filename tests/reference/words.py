"""Writes the fixtures of conversations and tokenizers: bunny-core/tests/fixtures/words.

Five small tokenizers, of the five makes that Bunny's language models have:

    codegen         vocab.json, merges.txt, added_tokens.json: Phi-1.5 and Phi-2 in their old form
    codegen-json    the same as tokenizer.json with added_tokens_decoder: their new form
    qwen2           vocab.json, merges.txt, cut into words as Qwen2 cuts
    sentencepiece   byte fallback, a space before every chunk, <s> added: MiniCPM, Phi-3
    tiktoken        cut as Llama-3 cuts, <|begin_of_text|> added

and expected.json: per tokenizer what AutoTokenizer makes of some texts, and per record the rendered
text, ids (-200 for a picture) and labels by the reference's own arithmetic, where labels are found
by measuring rounds and prefixes, tokenised apart.
"""

import json
import shutil
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import AutoTokenizer

OUT = Path(__file__).resolve().parents[2] / "bunny-core/tests/fixtures/words"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IMAGE, IGNORE = -200, -100
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_WORDS = LLAMA3_WORDS.replace("{1,3}", "")

# --- what the tokenizers are trained on ---

CORPUS = [
    SYSTEM + " USER: What is in the picture? ASSISTANT: A small red house under a tree.",
    "USER: How many dogs are there? ASSISTANT: There are 2 dogs, and 13 cats near the river.",
    "USER: Are you sure? ASSISTANT: Yes, the sky is blue and the grass is green.",
    "the people of the town are walking on the street with their dogs in the rain",
    "for x in range(10):\n    if x > 3:\n        print(x, \"yes\")\n\t\treturn x\n",
    "Is it raining? No, it isn't; they're dry, he's dry, we've seen it, I'd say so.",
    "1999 2024 3.14 10,000 50% (a) [b] {c} #d @e & f/g",
    "Grüße aus Köln, señor! 猫と犬 кошка и собака 🐱🐶 café naïve",
] * 3


def trained(tokenizer, size, specials, alphabet):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return json.loads(tokenizer.to_str())["model"]


def byte_level_model(pre_tokenizer, size, specials=()):
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    return trained(tokenizer, size, list(specials), pre_tokenizers.ByteLevel.alphabet())


def bpe(model, **options):
    return BPE(model["vocab"], [tuple(merge) for merge in model["merges"]], **options)


def words_then_bytes(words):
    split = pre_tokenizers.Split(Regex(words), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


# --- the tokenizers ---


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def write_vocabulary(folder, model):
    write_json(folder / "vocab.json", model["vocab"])
    merges = "\n".join(" ".join(merge) for merge in model["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges + "\n", encoding="utf-8")


def flags(token, special=True, **others):
    plain = {"lstrip": False, "normalized": not special, "rstrip": False, "single_word": False}
    return {"content": token, **plain, "special": special, **others}


def codegen(folder, as_json):
    model = byte_level_model(pre_tokenizers.ByteLevel(add_prefix_space=False), 420, ["<|endoftext|>"])
    first = len(model["vocab"])
    spaces = [" " * n for n in range(12, 1, -1)] + ["\t" * n for n in range(5, 1, -1)]
    config = {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False, "model_max_length": 2048}
    config |= {name: "<|endoftext|>" for name in ("bos_token", "eos_token", "unk_token")}
    if not as_json:
        write_vocabulary(folder, model)
        write_json(folder / "added_tokens.json", {space: first + n for n, space in enumerate(spaces)})
        write_json(folder / "special_tokens_map.json", {k: v for k, v in config.items() if k.endswith("_token")})
        write_json(folder / "tokenizer_config.json", config)
        return
    tokenizer = Tokenizer(bpe(model))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_tokens([AddedToken(space, normalized=True) for space in spaces])
    tokenizer.save(str(folder / "tokenizer.json"))
    decoder = {0: flags("<|endoftext|>")}
    decoder |= {first + n: flags(space, special=False) for n, space in enumerate(spaces)}
    write_json(folder / "tokenizer_config.json", config | {"added_tokens_decoder": decoder})


def qwen2(folder):
    model = byte_level_model(words_then_bytes(QWEN2_WORDS), 400)
    write_vocabulary(folder, model)
    first = len(model["vocab"])
    decoder = {first + n: flags(token) for n, token in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    config = {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "added_tokens_decoder": decoder}
    config |= {"bos_token": None, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": None}
    config["additional_special_tokens"] = ["<|im_start|>", "<|im_end|>"]
    write_json(folder / "tokenizer_config.json", config)


def sentencepiece(folder):
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Merges stay within words, as SentencePiece has it; runs of spaces may merge.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁*[^▁]*"), "isolated")
    model = trained(tokenizer, 300, [], [])
    specials = ["<unk>", "<s>", "</s>"]
    pieces = specials + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [piece for piece in sorted(model["vocab"], key=model["vocab"].get) if piece not in "\n\t猫犬🐱🐶"]
    merges = [tuple(merge) for merge in model["merges"] if not set("".join(merge)) & set("\n\t猫犬🐱🐶")]
    pieces = [piece for piece in pieces if len(piece) < 2 or piece[0] == "<" or not set(piece) & set("\n\t猫犬🐱🐶")]
    vocab = {piece: n for n, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in specials])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", config)


def tiktoken(folder):
    model = byte_level_model(words_then_bytes(LLAMA3_WORDS), 400)
    first = len(model["vocab"])
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    tokenizer = Tokenizer(bpe(model, ignore_merges=True))
    tokenizer.pre_tokenizer = words_then_bytes(LLAMA3_WORDS)
    bos = specials[0]
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(f"{bos} $A", f"{bos} $A {bos}:1 $B:1", [(bos, first)]),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in specials])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config |= {"bos_token": bos, "eos_token": "<|eot_id|>"}
    config["added_tokens_decoder"] = {first + n: flags(token) for n, token in enumerate(specials)}
    write_json(folder / "tokenizer_config.json", config)


MAKES = {
    "codegen": lambda folder: codegen(folder, as_json=False),
    "codegen-json": lambda folder: codegen(folder, as_json=True),
    "qwen2": qwen2,
    "sentencepiece": sentencepiece,
    "tiktoken": tiktoken,
}
TEMPLATES = {
    "codegen": ["bunny", "plain"],
    "codegen-json": ["bunny", "phi3", "plain"],
    "qwen2": ["bunny", "plain"],
    "sentencepiece": ["minicpm", "plain"],
    "tiktoken": ["llama", "plain"],
}
ENDS = {"bunny": "<|endoftext|>", "phi3": "<|endoftext|>", "minicpm": "</s>", "llama": "<|end_of_text|>"}

# --- what is said ---

TEXTS = [
    "", " ", "  ", "Hello world", " Hello  world ", "a\n\nb\tc", "it's 1999, isn't it?", "x" * 40,
    "for x in range(10):\n        print(x)", "Grüße, señor! 猫と犬 🐱🐶", "e\u0301 vs \u00e9", "\u00a0odd\u2003spaces\u200b",
    "ends in spaces   ", "\tindented\t\t\t", "ALL CAPS 123456789", "a<|endoftext|>b</s>c<|end_of_text|>d", "\r\nwindows\r\n",
]  # fmt: skip


def record(*sentences, image=False):
    speakers = ["human", "gpt"] * len(sentences)
    return {"image": image, "sentences": list(zip(speakers, sentences))}


RECORDS = [
    record("What is in the picture?", "A small red house."),
    record("<image>\nWhat is in the picture?", "A small red house.", image=True),
    record("What is in the picture?\n<image>", "A house.", "Are you sure?", "Yes.", image=True),
    record("  <image> How many dogs <image> are there?  ", "2", "And cats?", "13 cats, near the river", image=True),
    record("<image>", "A dog.", image=True),
    record("Is it raining?", "\nNo, it isn't.", "Sure?", "  Yes,  sure.  "),
    record("Say it.", "(a) [b] {c}", "Again.", "#d @e", "More.", "...", "Last.", "🐱🐶"),
    record("Write code.", "for x in range(10):\n        print(x)\n\t\treturn x", "Thanks", "1999"),
    record("<image>\nGrüße?", "Grüße aus Köln, señor! 猫と犬", "кошка?", "кошка и собака", image=True),
    record("What does <image> mean here?", "It is text: <image>."),
    record("A picture that is not mentioned", "Fine.", image=True),
    {"image": False, "sentences": [("gpt", "I begin."), ("human", "Hello?"), ("gpt", "Hello world.")]},
    record("<image>\nDescribe it.", "A street in the rain, with people and their dogs.", "", "", image=True),
]
CAPTIONS = [
    record("<image>\nDescribe it.", "people walking on the street", image=True),
    record("Give a caption.\n<image>", " a red house , under a tree .\n", image=True),
    record("<image>", "猫と犬 🐱", image=True),
    record("<image>", "2 dogs", image=True),
]

# --- the reference's way ---


def ids_of(tokenizer, text):
    """A text in chunks around <image>; a beginning of sequence stays on the first alone."""
    chunks = [tokenizer(chunk)["input_ids"] for chunk in text.split("<image>")]
    has_bos = len(chunks[0]) > 0 and chunks[0][0] == tokenizer.bos_token_id
    ids = list(chunks[0])
    for chunk in chunks[1:]:
        ids += [IMAGE] + chunk[1 if has_bos else 0 :]
    return ids


def sentences_of(record):
    sentences = []
    for speaker, text in record["sentences"]:
        if record["image"] and "<image>" in text:
            text = ("<image>\n" + text.replace("<image>", "").strip()).strip()
        sentences.append((speaker, text))
    return sentences[1:] if sentences[0][0] != "human" else sentences


def render(template, sentences):
    text = SYSTEM + " "
    for n, (_, said) in enumerate(sentences):
        role = ["USER", "ASSISTANT"][n % 2]
        text += f"{role}: {said}{[' ', ENDS[template]][n % 2]}" if said else f"{role}:"
    return text


def measured(tokenizer, text, image, template):
    """Ids and labels; labels are None where the reference finds a mismatch and ignores the record."""
    count = (lambda part: len(ids_of(tokenizer, part))) if image else (lambda part: len(tokenizer(part)["input_ids"]))
    ids = ids_of(tokenizer, text) if image else tokenizer(text)["input_ids"]
    with_bos = len(tokenizer("")["input_ids"]) > 0
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.unk_token_id
    if template == "llama":
        pad = tokenizer.convert_tokens_to_ids("<|end_of_text|>")
    end = tokenizer.convert_tokens_to_ids(ENDS[template])
    labels, total, rounds = list(ids), sum(i != pad for i in ids), 0
    at = 1 if with_bos else 0
    labels[:at] = [IGNORE] * at
    for part in text.split(ENDS[template]):
        if part == "":
            break
        halves = part.split(" ASSISTANT: ")
        if len(halves) != 2:
            break
        rounds += 1
        length = count(part) + (0 if with_bos else 1)
        instruction = count(halves[0] + " ASSISTANT: ") - (2 if with_bos else 1)
        labels[at : at + instruction] = [IGNORE] * instruction
        at += length
    labels[at:] = [IGNORE] * (len(labels) - at)
    if (at - rounds if pad == end else at) != total:
        return ids, None
    return ids, labels


def caption(tokenizer, sentences):
    text = "<image>" + sentences[1][1] + "\n"
    ids = ids_of(tokenizer, text)
    given = len(ids_of(tokenizer, "<image>"))
    return text, ids, [IGNORE] * given + ids[given:]


# --- the fixtures ---


def expect(name, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    texts = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        decoded = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        texts.append({"text": text, "ids": ids, "decoded": decoded})
    records = []
    for template in TEMPLATES[name]:
        for record in CAPTIONS if template == "plain" else RECORDS:
            sentences = sentences_of(record)
            if template == "plain":
                text, ids, labels = caption(tokenizer, sentences)
            else:
                text = render(template, sentences)
                ids, labels = measured(tokenizer, text, record["image"], template)
            said = {"template": template, **record, "text": text, "ids": ids, "labels": labels}
            if template != "plain":
                asked = render(template, sentences[:-1]) + "ASSISTANT:"
                asked_ids = ids_of(tokenizer, asked) if record["image"] else tokenizer(asked)["input_ids"]
                said |= {"asked": asked, "asked_ids": asked_ids}
            records.append(said)
    special = {kind: getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "unk", "pad")}
    return {"length": len(tokenizer), "special": special, "texts": texts, "records": records}


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    expected = {}
    for name, make in MAKES.items():
        (OUT / name).mkdir(parents=True)
        make(OUT / name)
        expected[name] = expect(name, OUT / name)
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")
