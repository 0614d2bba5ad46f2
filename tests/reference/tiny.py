"""Small random Bunnies: a tokenizer, two pictures, configurations in the published fields, weights,
and how they are written."""

import json
import re

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

import bunny
from bunny import Bunny

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


def llama_tokenizer():
    """Byte-level BPE in the manner of Llama-3's: whole words first, `<|begin_of_text|>` before a text."""
    tokenizer = make_tokenizer()
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    made = Tokenizer(models.BPE(model["vocab"], merges, ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    begin = special[0]
    made.post_processor = processors.TemplateProcessing(
        f"{begin} $A", f"{begin} $A {begin}:1 $B:1", [(begin, made.token_to_id(begin))]
    )
    return made


def sentencepiece_tokenizer(begins, more=()):
    """BPE in the manner of SentencePiece: spaces are `▁`, one before every text, bytes for what it has
    no piece for; with `begins`, `<s>` before a text."""
    trained = Tokenizer(models.BPE())
    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    trained.normalizer = normalizers.Sequence(spaces)
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁*[^▁]*"), "isolated")
    trained.train_from_iterator(CORPUS * 4, trainers.BpeTrainer(vocab_size=130, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    special = ["<unk>", "<s>", "</s>"]
    pieces = special + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += sorted(model["vocab"], key=model["vocab"].get)
    vocab = {piece: n for n, piece in enumerate(pieces)}
    merges = [tuple(merge) for merge in model["merges"]]
    made = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence(spaces)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special += more
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    if begins:
        made.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    return made


# Of each family: what its class is called in the reference, and what its tokenizer is and its answers
# end in.
FAMILIES = {
    "phi": ("Phi", EOS, make_tokenizer),
    "stablelm": ("StableLM", EOS, make_tokenizer),
    "qwen2": ("Qwen2", EOS, make_tokenizer),
    "llama": ("Llama", "<|end_of_text|>", llama_tokenizer),
    "minicpm": ("MiniCPM", "</s>", lambda: sentencepiece_tokenizer(True)),
    "phi3": ("Phi3", EOS, lambda: sentencepiece_tokenizer(False, [EOS, "<|assistant|>"])),
}


def end_of(config):
    """What the answers of a model of this configuration end in."""
    return FAMILIES[config["model_type"].removeprefix("bunny-")][1]


def tokenizer_for(config):
    return FAMILIES[config["model_type"].removeprefix("bunny-")][2]()


def write_tokenizer(folder, tokenizer, end=EOS):
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": end, "eos_token": end, "unk_token": end}
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
        "intermediate_size": 72,
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


def llama_config(vocab, **changes):
    """config.json of a base Llama: a key head for two query heads."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": None,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 56,
        "max_position_embeddings": 512,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": vocab,
    } | changes


def qwen2_config(vocab, **changes):
    """config.json of a base Qwen1.5."""
    own = {
        "architectures": ["Qwen2ForCausalLM"],
        "max_window_layers": 21,
        "model_type": "qwen2",
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": 512,
        "use_sliding_window": False,
    }
    return llama_config(vocab) | own | changes


def minicpm_config(vocab, **changes):
    """config.json of a base MiniCPM, its scales and a head that is its embedding."""
    own = {
        "architectures": ["MiniCPMForCausalLM"],
        "dim_model_base": 24,
        "model_type": "minicpm",
        "num_key_value_heads": 4,
        "rope_theta": 10000.0,
        "scale_depth": 4.0,
        "scale_emb": 2,
        "tie_word_embeddings": True,
    }
    return llama_config(vocab) | own | changes


def phi3_config(vocab, **changes):
    """config.json of a base Phi-3, with a window that prompts are longer than."""
    own = {
        "architectures": ["Phi3ForCausalLM"],
        "embd_pdrop": 0.0,
        "model_type": "phi3",
        "num_key_value_heads": 4,
        "original_max_position_embeddings": 512,
        "resid_pdrop": 0.0,
        "rope_theta": 10000.0,
        "sliding_window": 40,
    }
    return llama_config(vocab) | own | changes


def clip_config(**changes):
    """config.json of a CLIP tower's folder."""
    own = {
        "architectures": ["CLIPVisionModel"],
        "hidden_act": "quick_gelu",
        "image_size": 42,
        "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model",
    }
    return siglip_config() | own | changes


def clip_processor(size):
    return {
        "crop_size": size,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": size,
    }


def bunny_config(base, tower, width, projector, eos, **changes):
    """What Bunny adds to its language model's config.json."""
    family = FAMILIES[base["model_type"]][0]
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
        "hidden_size": 24,
        "image_size": 46,
        "intermediate_size": 48,
        "layer_norm_eps": 1e-6,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 2,
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
GAINS = {"q_proj": 1.6, "k_proj": 1.6, "v_proj": 1.5, "dense": 1.5, "o_proj": 1.5, "qkv_proj": 1.6}


def random_weights(model: Bunny, tokenizer, seed):
    """Weights that keep signals near unit size, attend sharply, and lead clearly when they choose.

    Rows of the head for bytes that are no character by themselves are quiet, so answers are text."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda shape, scale: torch.randn(shape, generator=random) * scale
    tensors = {}
    for name, parameter in model.named().items():
        shape = parameter.shape
        if name == "model.embed_tokens.weight" and model.config["tie_word_embeddings"]:
            # The head too: what was read must not be all that is said.
            value = normal(shape, 0.25)
            value[quiet_rows(tokenizer, shape[0])] *= 0.1
        elif name == "model.embed_tokens.weight":
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
    path.parent.mkdir(parents=True, exist_ok=True)
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
