"""Makes tests/fixtures/models: small random Bunnies and what the reference makes of them.

    python tests/reference/models.py            # every case
    python tests/reference/models.py phi-siglip # one case

Each folder is a case: a checkpoint in a published layout, `expected.json` (prompts, ids, greedy
answers) and `expected.safetensors` (what flows through the model). README.md lists the names.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import bunny
from bunny import TOWER, Bunny

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "models"
ANSWER = 16  # tokens at most
EOS = "<|endoftext|>"


# --- words and pictures ------------------------------------------------------------------------

CORPUS = [
    bunny.SYSTEM,
    "USER: What is in the picture? ASSISTANT: A small red house stands near a tree.",
    "USER: Describe the image in detail. ASSISTANT: Two dogs sit on the grass under a blue sky.",
    "USER: Why is the sky blue? ASSISTANT: The air scatters blue light more than red light.",
    "USER: Are you sure? ASSISTANT: Yes, the cat is on the left of the box.",
    "Answer the question using a single word or phrase. How many birds are there?",
]


def make_tokenizer():
    """A byte-level BPE in the manner of CodeGen's: no BOS, `<|endoftext|>` after the merges,
    runs of spaces added behind it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(EOS, normalized=False, special=True)])
    tokenizer.add_tokens([AddedToken(" " * n, normalized=False) for n in (4, 3, 2)])
    return tokenizer


def write_tokenizer(folder, tokenizer):
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": EOS, "eos_token": EOS, "unk_token": EOS}
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        special | {"model_max_length": 2048, "tokenizer_class": "PreTrainedTokenizerFast"},
    )


def make_pictures():
    """A wide and a tall picture: a gradient, grain, and a few shapes."""
    out = {}
    for seed, (name, size) in enumerate({"wide": (72, 44), "tall": (35, 59)}.items()):
        random = np.random.default_rng(seed)
        w, h = size
        x, y = np.meshgrid(np.linspace(0, 1, w), np.linspace(0, 1, h))
        values = np.stack([255 * x, 255 * y, 255 * (1 - x * y)], -1)
        values = (values + random.normal(0, 12, (h, w, 3))).clip(0, 255).astype(np.uint8)
        out[name] = Image.fromarray(values)
        draw = ImageDraw.Draw(out[name])
        for _ in range(3):
            left, top = int(random.integers(0, w - 12)), int(random.integers(0, h - 12))
            colour = tuple(int(c) for c in random.integers(0, 256, 3))
            draw.rectangle([left, top, left + 11, top + 9], fill=colour)
    return out


def write_json(path, value):
    """Indented, lists of numbers on one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[-\d\s,.e]+\]", lambda m: re.sub(r"\s+", " ", m[0]), text)
    path.write_text(text + "\n")


# --- configurations ----------------------------------------------------------------------------


def phi_config(vocab, **changes):
    """config.json of a base Phi, in the fields of its published files."""
    return {
        "architectures": ["PhiForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "embd_pdrop": 0.0,
        "eos_token_id": None,
        "hidden_act": "gelu_new",
        "hidden_size": 48,
        "initializer_range": 0.02,
        "intermediate_size": 112,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 512,
        "model_type": "phi",
        "num_attention_heads": 3,
        "num_hidden_layers": 3,
        "num_key_value_heads": 3,
        "partial_rotary_factor": 0.5,
        "qk_layernorm": False,
        "resid_pdrop": 0.0,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": vocab,
    } | changes


def stablelm_config(vocab, **changes):
    """config.json of StableLM-2 as Bunny saves it: the fields of its own older configuration
    class beside those of the base model's file."""
    return {
        "architectures": ["StableLmForCausalLM"],
        "bos_token_id": None,
        "eos_token_id": None,
        "hidden_act": "silu",
        "hidden_size": 64,
        "initializer_range": 0.02,
        "intermediate_size": 88,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 512,
        "model_type": "stablelm",
        "norm_eps": 1e-5,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "partial_rotary_factor": 0.25,
        "rope_pct": 0.25,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "use_qkv_bias": True,
        "vocab_size": vocab,
    } | changes


def bunny_config(base, tower, width, projector, eos, **changes):
    """What Bunny adds to its language model's config.json."""
    family = {"phi": "Phi", "stablelm": "StableLM"}[base["model_type"]]
    return base | {
        "architectures": [f"Bunny{family}ForCausalLM"],
        "bos_token_id": eos,
        "eos_token_id": eos,
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": width,
        "mm_projector_lr": 2e-5,
        "mm_projector_type": projector,
        "mm_vision_tower": tower,
        "model_type": f"bunny-{base['model_type']}",
        "tokenizer_model_max_length": 2048,
        "tokenizer_padding_side": "right",
        "tune_mm_mlp_adapter": False,
        "use_mm_proj": True,
    } | changes


def siglip_config(**changes):
    """config.json of a tower's folder. 14-pixel patches leave a rest of 4 pixels, as 384 leaves 6."""
    return {
        "architectures": ["SiglipVisionModel"],
        "attention_dropout": 0.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 32,
        "image_size": 60,
        "intermediate_size": 68,
        "layer_norm_eps": 1e-6,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 4,
        "num_channels": 3,
        "num_hidden_layers": 3,
        "patch_size": 14,
        "torch_dtype": "float32",
    } | changes


def siglip_processor(size):
    return {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5] * 3,
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5] * 3,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": size, "width": size},
    }


def eva_config():
    """EVA-CLIP's model configuration, small: a 4 x 4 grid pre-trained on 3 x 3."""
    return {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 56,
            "layers": 3,
            "width": 32,
            "drop_path_rate": 0,
            "head_width": 16,
            "mlp_ratio": 2.6667,
            "patch_size": 14,
            "eva_model_name": "eva-clip-tiny",
            "xattn": True,
            "fusedLN": True,
            "rope": True,
            "pt_hw_seq_len": 3,
            "intp_freq": True,
            "naiveswiglu": True,
            "subln": True,
        },
    }


# --- weights -----------------------------------------------------------------------------------


# Attention that looks around sharply and weighs more than the last token's own embedding.
GAINS = {"q_proj": 1.6, "k_proj": 1.6, "v_proj": 1.5, "dense": 1.5, "o_proj": 1.5}


def random_weights(model: Bunny, tokenizer, seed):
    """Weights that keep signals near unit size, attend sharply, and lead clearly when they choose.

    Rows of the head for bytes that are no character by themselves are quiet, so answers are text."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda shape, scale: torch.randn(shape, generator=random) * scale
    tensors = {}
    for name, parameter in model.named().items():
        shape = parameter.shape
        if name == "model.embed_tokens.weight":
            value = normal(shape, 0.4)
        elif name == "lm_head.weight":
            value = normal(shape, 4 / shape[1] ** 0.5)
            value[quiet_rows(tokenizer, shape[0])] *= 0.1
        elif "norm" in name or "_ln" in name:
            value = normal(shape, 0.1) + (1.0 if name.endswith("weight") else 0.0)
        elif len(shape) == 1:
            value = normal(shape, 0.1)
        elif any(part in name for part in ("cls_token", "pos", "probe")):
            value = normal(shape, 0.5)
        else:
            gain = next((g for part, g in GAINS.items() if part in name), 1.0)
            value = normal(shape, gain / parameter[0].numel() ** 0.5)
        tensors[name] = value
    return tensors


def quiet_rows(tokenizer, rows):
    printable = lambda i: tokenizer.decode([i], skip_special_tokens=False).isprintable()
    known = tokenizer.get_vocab_size()
    bad = [i for i in range(known) if not printable(i) or "\ufffd" in tokenizer.decode([i])]
    return bad + list(range(known, rows))


def rope_buffers(tower_config):
    """The rotary tables that EVA checkpoints carry, once for the tower and once a block."""
    vision = tower_config["vision_cfg"]
    cos, sin = bunny.rope_tables(vision)
    places = ["model."] + [f"model.blocks.{i}.attn." for i in range(vision["layers"])]
    return {f"{p}rope.freqs_{n}": t.clone() for p in places for n, t in (("cos", cos), ("sin", sin))}


def write_tensors(path, tensors):
    save_file({k: v.detach().contiguous() for k, v in sorted(tensors.items())}, path, {"format": "pt"})


def write_shards(folder, tensors, count):
    """Shards of near equal size and their index."""
    total = sum(t.nbytes for t in tensors.values())
    shards, done = [{} for _ in range(count)], 0
    for name, tensor in sorted(tensors.items()):
        shards[min(done * count // total, count - 1)][name] = tensor
        done += tensor.nbytes
    index = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        write_tensors(folder / file, shard)
        index |= {name: file for name in shard}
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))},
    )


# --- what the reference makes of a model -------------------------------------------------------

QUESTIONS = [
    ("wide", "<image>\nWhat is in the picture?", "Are you sure?"),
    ("tall", "<image>\nDescribe the image in detail.", None),
    ("text", "Why is the sky blue?", None),
]
EVERY_POSITION = ("wide.0", "text.0")  # whose logits are kept whole; the others' last row only


@torch.no_grad()
def expect(folder, model: Bunny, tokenizer, only_logits=False):
    """Writes expected.json and expected.safetensors of a model; the smallest lead is printed."""
    eos = tokenizer.token_to_id(EOS)
    pictures, tensors, turns, rows, first = make_pictures(), {}, [], [], []
    margins = []
    for name, question, then in QUESTIONS:
        features = []
        if name in pictures:
            pixels = bunny.pixels_of(pictures[name], model.tower)
            tower, projected = model.encode(pixels)
            features = [projected[0]]
            if not only_logits:
                tensors |= {f"{name}.pixels": pixels, f"{name}.tower": tower[0], f"{name}.projected": projected[0]}
        history = []
        for turn, text in enumerate([question, then] if then else [question]):
            prompt = bunny.prompt_of(history + [(text, None)])
            ids = bunny.ids_of(tokenizer, prompt)
            embeds = model.splice(ids, features)
            hidden = {} if (name, turn) == ("wide", 0) and not only_logits else None
            key = f"{name}.{turn}"
            logits = model.logits(embeds[None], hidden=hidden)[0]
            tensors[f"{key}.last_logits"] = logits[-1].clone()
            if key in EVERY_POSITION:
                tensors[f"{key}.logits"] = logits
            tensors |= {f"{key}.{k}": v[0] for k, v in (hidden or {}).items()}
            (answer,), margin = model.generate([embeds], ANSWER, eos)
            margins.append(margin)
            words = tokenizer.decode(answer, skip_special_tokens=True).strip()
            turns.append(
                {
                    "name": key,
                    "picture": f"{name}.png" if features else None,
                    "prompt": prompt,
                    "input_ids": ids,
                    "generated_ids": answer,
                    "generated_text": words,
                }
            )
            history.append((text, words))
            if turn == 0:
                rows.append(embeds)
                first.append(key)
    padded, mask = bunny.pad_left(rows)
    tensors["batch.logits"] = model.logits(padded, mask)[:, -1]
    answers, margin = model.generate(rows, ANSWER, eos)
    for key, answer in zip(first, answers):
        alone = next(t for t in turns if t["name"] == key)
        assert answer == alone["generated_ids"], f"{folder.name}: {key} differs in a batch"
    for key, last in zip(first, tensors["batch.logits"]):
        torch.testing.assert_close(last, tensors[f"{key}.last_logits"], rtol=1e-4, atol=1e-4)
    write_json(
        folder / "expected.json",
        {"max_new_tokens": ANSWER, "turns": turns, "batch": {"rows": first, "generated_ids": answers}},
    )
    write_tensors(folder / "expected.safetensors", tensors)
    margin = min([margin, *margins])
    assert margin >= 1e-3, f"{folder.name}: a choice leads by {margin:.1e} only, take another seed"
    print(f"{folder.name}: smallest lead {margin:.4f}")
    for turn in turns:
        ended = " (ends)" if turn["generated_ids"][-1] == eos else ""
        print(f"  {turn['name']}: {turn['generated_text']!r}{ended}")


# --- cases -------------------------------------------------------------------------------------


def start(name):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_tower_folder(folder, tower_config):
    folder.mkdir()
    write_json(folder / "config.json", tower_config)
    if "vision_cfg" not in tower_config:
        size = tower_config.get("vision_config", tower_config)["image_size"]
        write_json(folder / "preprocessor_config.json", siglip_processor(size))


def merged(name, base, tower_config, projector, seed, *, trimmed=False, shards=1, tower_inside=True, dtype=None):
    """A merged checkpoint: config.json, weights, tokenizer, and the tower's folder."""
    folder, tokenizer = start(name), make_tokenizer()
    eva = "vision_cfg" in tower_config
    tower, width = ("eva-clip-tower", 32) if eva else ("siglip-tower", tower_config["hidden_size"])
    base = base(tokenizer.get_vocab_size())
    if dtype:
        base["torch_dtype"] = str(dtype).removeprefix("torch.")
    config = bunny_config(base, tower, width, projector, tokenizer.token_to_id(EOS))
    tensors = random_weights(Bunny(config, tower_config, trimmed), tokenizer, seed)
    tensors = {k: v.to(dtype or torch.float32) for k, v in tensors.items()}
    if eva:
        tensors |= {TOWER + k: v for k, v in rope_buffers(tower_config).items()}
    write_json(folder / "config.json", config)
    write_tokenizer(folder, tokenizer)
    write_tower_folder(folder / tower, tower_config)
    if not tower_inside:
        inside = {k: v for k, v in tensors.items() if k.startswith(TOWER)}
        tensors = {k: v for k, v in tensors.items() if k not in inside}
        write_tensors(folder / tower / "model.safetensors", {k.removeprefix(TOWER): v for k, v in inside.items()})
    if shards == 1:
        write_tensors(folder / "model.safetensors", tensors)
    else:
        write_shards(folder, tensors, shards)
    expect(folder, bunny.open_merged(folder), tokenizer, only_logits=dtype is not None)


def phi_siglip():
    merged("phi-siglip", phi_config, siglip_config(), "mlp2x_gelu", 1)


CASES = {"phi-siglip": phi_siglip}


def main():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, picture in make_pictures().items():
        picture.save(FIXTURES / f"{name}.png")
    for name in sys.argv[1:] or CASES:
        CASES[name]()


if __name__ == "__main__":
    main()
