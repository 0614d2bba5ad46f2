"""Makes tests/fixtures/pairs, small random pairs of towers with what transformers' own make of pictures
and captions, and the table of HTML's references that captions are cleaned by.

    python tests/reference/pairs.py

Ids of CLIP's captions are by open_clip's SimpleTokenizer, which cleans them with ftfy and html.unescape;
SigLIP's by transformers' SiglipTokenizer, on the SentencePiece library. README.md says what the files
hold.
"""

import gzip
import html.entities
import json
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipTokenizer,
)

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "fixtures" / "pairs"
ENTITIES = ROOT / "bunny-core" / "src" / "input" / "tokenizer" / "captions" / "entities.txt"

CORPUS = [
    "a small red house stands near a tree",
    "two dogs sit on the grass under a blue sky",
    "a photo of the cat on the left of the box, in black and white",
    "one yellow triangle and three green circles in front of a dark wall",
    "the best running shoes for women 2019 - free shipping | shop online now",
    "café au lait, crème brûlée & naïve façade: don't miss it!",
]

CAPTIONS = [
    "a small red house stands near a tree",
    "",
    "   Two DOGS\tsit on\n the grass.  ",
    "It's the cat's box; we'll see what they're worth, I'd say",
    "<b>Bold</b> claims &amp; &lt;tags&gt; &#39;quoted&#39; &nbsp; end",
    "&amp;amp;amp; &notit; &copy 2019 &hearts; &#x1F600; &#128; &unknown; &",
    "‘curly’ “quotes” ʼn ﬁne ﬂow ﬃ Ĳ",
    "ＦＵＬＬ　ＷＩＤＴＨ ｶﾀｶﾅ",
    "cafe\u0301 na\u0308ive \u00c5ngstro\u0308m \u0130stanbul \u03a3\u03b1\u03c2 \u039f\u0394\u039f\u03a3",
    "zero\u200bwidth \ufeffbom \x07bell \x1b[36;44mcolour\x1b[0m soft\u00adhyphen",
    "line\u2028one\u2029two\r\nthree\rfour\u3000five\u00a0six",
    "日本語の説明 中文 한국어 \u0939\u093f\u0928\u094d\u0926\u0940 ไทย",
    "\U0001f600 emoji \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f !!! ??? ...---",
    "IMG_2041.JPG (1024x768) #tag @user http://example.com/?q=1&r=2",
    "end <|endoftext|> behind it <|startoftext|>",
    "prices: $19.99, 50% off \u00a35 \u20ac7 1,234,567",
    "snake_case and hy-phens and under__scores",
    "word " * 100,
    "x" * 300,
]


def write_entities():
    lines = [
        f"{name} {' '.join(f'{ord(c):X}' for c in text)}"
        for name, text in sorted(html.entities.html5.items())
    ]
    ENTITIES.write_text("\n".join(lines) + "\n")


def randomise(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "logit" in name:
                continue
            # Biases and norms too: nothing may be zero or one by default.
            parameter.add_(0.1 * torch.randn_like(parameter))


def weights_of(model):
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    return {name: value for name, value in weights.items() if "position_ids" not in name}


def pictures():
    """A wide picture in the models' fixtures, and one of noise. A tall one is left to `pictures.py`:
    Pillow 13 squeezes it in another order than the published models' Pillow did."""
    rng = np.random.default_rng(11)
    noise = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(OUT / "noise.png")
    wide = Image.open(ROOT / "tests" / "fixtures" / "models" / "wide.png")
    return [picture.convert("RGB") for picture in (wide, Image.open(OUT / "noise.png"))]


def features(output):
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def clip():
    """CLIP's own vocabulary in small: byte-level BPE whose words end in `</w>`."""
    folder = OUT / "clip"
    folder.mkdir(parents=True, exist_ok=True)
    words = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    words.normalizer = normalizers.Lowercase()
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=700, end_of_word_suffix="</w>", show_progress=False)
    words.train_from_iterator(CORPUS * 4, trainer)
    merges = [tuple(merge) for merge in json.loads(words.to_str())["model"]["merges"]]
    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        text = "version\n" + "".join(f"{a} {b}\n" for a, b in merges)
        Path(file.name).write_bytes(gzip.compress(text.encode()))
        theirs = SimpleTokenizer(bpe_path=file.name, context_length=77)
    vocabulary = theirs.encoder
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): id for token, id in vocabulary.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
    lines = "".join(f"{a} {b}\n" for a, b in merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges)
    with tempfile.TemporaryDirectory() as saved:
        tokenizer.save_pretrained(saved)
        (folder / "tokenizer.json").write_text((Path(saved) / "tokenizer.json").read_text())
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")

    sizes = {"num_hidden_layers": 2, "hidden_act": "quick_gelu"}
    config = CLIPConfig(
        projection_dim=20,
        text_config=sizes
        | {
            "vocab_size": len(vocabulary),
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_attention_heads": 3,
            "bos_token_id": len(vocabulary) - 2,
            "eos_token_id": len(vocabulary) - 1,
            "pad_token_id": len(vocabulary) - 1,
        },
        vision_config=sizes
        | {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
    )
    torch.manual_seed(3)
    model = CLIPModel(config).eval()
    randomise(model)
    save_file(weights_of(model), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_diff_dict(), indent=1) + "\n")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, resample=3
    )
    save_processor(processor, "CLIPImageProcessor", folder)

    ids = theirs(CAPTIONS).to(torch.int32)
    # Behind the first end nothing is read, and nothing is compared.
    expected = expected_of(model, processor, ids.long())
    for part in (model.text_model, model.vision_model):
        part.config.hidden_act = "gelu"
        for layer in part.encoder.layers:
            layer.mlp.activation_fn = torch.nn.GELU()
    laion = expected_of(model, processor, ids.long())
    expected |= {f"gelu.{name}": value for name, value in laion.items() if name != "pixels"}
    end = len(vocabulary) - 1
    rows = [row[: row.index(end) + 1] for row in ids.tolist()]
    save(folder, expected, rows)


def siglip():
    """A SentencePiece Unigram vocabulary in small, in the manner of SigLIP's."""
    folder = OUT / "siglip"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "text"
        lines = ["".join(c for c in line if c.isalnum() or c == " ") for line in CORPUS]
        text.write_text("\n".join(lines * 8))
        sentencepiece.SentencePieceTrainer.train(
            input=str(text),
            model_prefix=f"{scratch}/spiece",
            vocab_size=160,
            character_coverage=1.0,
            model_type="unigram",
            # As c4's, which SigLIP has: `</s>` is 1, there is no start, spaces are kept.
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            normalization_rule_name="identity",
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
        )
        model_file = f"{scratch}/spiece.model"
        theirs = SiglipTokenizer(model_file)
        pieces = sentencepiece.SentencePieceProcessor(model_file=model_file)
        # What stands before a caption is a `▁`, as theirs puts one there.
        rows = [theirs(caption.strip(), padding="max_length", truncation=True, max_length=64).input_ids
                for caption in CAPTIONS]
    vocabulary = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(len(pieces))]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.add_special_tokens(["</s>", "<unk>"])
    made.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "SiglipTokenizer",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")

    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    config = SiglipConfig(
        text_config=sizes
        | {"num_attention_heads": 3, "vocab_size": len(vocabulary), "projection_size": 24},
        vision_config=sizes | {"num_attention_heads": 2, "image_size": 32, "patch_size": 8},
    )
    torch.manual_seed(5)
    model = SiglipModel(config).eval()
    randomise(model)
    save_file(weights_of(model), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_diff_dict(), indent=1) + "\n")
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32}, resample=3)
    save_processor(processor, "SiglipImageProcessor", folder)
    save(folder, expected_of(model, processor, torch.tensor(rows)), rows)


def save_processor(processor, name, folder):
    fields = json.loads(processor.to_json_string()) | {"image_processor_type": name}
    kept = ["do_center_crop", "do_normalize", "do_rescale", "do_resize", "resample", "size", "crop_size"]
    kept += ["rescale_factor", "image_mean", "image_std", "image_processor_type"]
    fields = {field: fields[field] for field in kept if fields.get(field) is not None}
    (folder / "preprocessor_config.json").write_text(json.dumps(fields, indent=1) + "\n")


def expected_of(model, processor, ids):
    with torch.no_grad():
        pixels = processor(pictures(), return_tensors="pt").pixel_values
        return {
            "pixels": pixels.contiguous(),
            "pictures": features(model.get_image_features(pixel_values=pixels)).contiguous(),
            "captions": features(model.get_text_features(input_ids=ids)).contiguous(),
        }


def save(folder, expected, rows):
    save_file(expected, folder / "expected.safetensors")
    captions = [{"caption": caption, "ids": ids} for caption, ids in zip(CAPTIONS, rows)]
    text = ",\n".join(json.dumps(caption) for caption in captions)
    (folder / "captions.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    write_entities()
    clip()
    siglip()
