"""Makes tests/fixtures/models: small random Bunnies and what the reference makes of them.

    python tests/reference/models.py            # every case
    python tests/reference/models.py phi-siglip # one case

Each folder is a case: a checkpoint in a published layout, `expected.json` (prompts, ids, greedy
answers) and `expected.safetensors` (what flows through the model). README.md lists the names.
"""

import copy
import shutil
import sys
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from tokenizers import Tokenizer

import bunny
from bunny import TOWER, Bunny
from tiny import (
    EOS,
    bunny_config,
    clip_config,
    clip_processor,
    end_of,
    eva_config,
    llama_config,
    make_pictures,
    make_tokenizer,
    minicpm_config,
    phi3_config,
    phi_config,
    qwen2_config,
    random_weights,
    rope_buffers,
    siglip_config,
    siglip_processor,
    stablelm_config,
    tokenizer_for,
    write_json,
    write_shards,
    write_tensors,
    write_tokenizer,
)

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "models"
ANSWER = 16  # tokens at most


# --- what the reference makes of a model -------------------------------------------------------

QUESTIONS = [
    ("wide", "<image>\nWhat is in the picture?", "Are you sure?"),
    ("tall", "<image>\nDescribe the image in detail.", None),
    ("text", "Why is the sky blue?", None),
]


@torch.no_grad()
def expect(folder, model: Bunny, tokenizer, only_logits=False, dtype=None):
    """Writes expected.json and expected.safetensors of a model; the smallest lead is printed.

    With a `dtype`, says too how far arithmetic in that type is from f32's."""
    end = end_of(model.config)
    eos = tokenizer.token_to_id(end)
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
            prompt = bunny.prompt_of(history + [(text, None)], end)
            ids = bunny.ids_of(tokenizer, prompt)
            embeds = model.splice(ids, features)
            hidden = {} if (name, turn) == ("wide", 0) and not only_logits else None
            key = f"{name}.{turn}"
            logits = model.logits(embeds[None], hidden=hidden)[0]
            tensors[f"{key}.last_logits"] = logits[-1].clone()
            if key == "wide.0":
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
    rounding = {}
    if dtype:
        half = copy.deepcopy(model).to(dtype).logits(rows[0][None].to(dtype))[0].float()
        rounding = {"rounding": (half - tensors["wide.0.logits"]).abs().max().item()}
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
        {"max_new_tokens": ANSWER, "turns": turns, "batch": {"rows": first, "generated_ids": answers}}
        | rounding,
    )
    write_tensors(folder / "expected.safetensors", tensors)
    margin = min([margin, *margins])
    assert margin >= 0.01, f"{folder.name}: a choice leads by {margin:.1e} only, take another seed"
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
        is_clip = tower_config["model_type"] == "clip_vision_model"
        processor = clip_processor(size) if is_clip else siglip_processor(size)
        write_json(folder / "preprocessor_config.json", processor)


def merged(
    name, base, tower_config, projector, seed, *, trimmed=False, shards=1, tower_inside=True, dtype=None, scales=None
):
    """A merged checkpoint: config.json, weights, tokenizer, and the tower's folder."""
    folder, tokenizer = start(name), tokenizer_for(base(0))
    eva = "vision_cfg" in tower_config
    tower, width = ("eva-clip-tower", 32) if eva else ("siglip-tower", tower_config["hidden_size"])
    if tower_config.get("model_type") == "clip_vision_model":
        tower = "clip-tower"
    base = base(tokenizer.get_vocab_size())
    if dtype:
        base["torch_dtype"] = str(dtype).removeprefix("torch.")
    config = bunny_config(base, tower, width, projector, tokenizer.token_to_id(end_of(base)))
    if scales:
        wide = width * len(scales.split(","))
        config |= {"mm_hidden_size": wide, "s2_scales": scales, "unfreeze_vision_tower": True, "use_s2": True}
    tensors = random_weights(Bunny(config, tower_config, trimmed), tokenizer, seed)
    tensors = {k: v.to(dtype or torch.float32) for k, v in tensors.items()}
    if eva:
        tensors |= {TOWER + k: v for k, v in rope_buffers(tower_config).items()}
    write_json(folder / "config.json", config)
    write_tokenizer(folder, tokenizer, end_of(config))
    write_tower_folder(folder / tower, tower_config)
    if not tower_inside:
        inside = {k: v for k, v in tensors.items() if k.startswith(TOWER)}
        tensors = {k: v for k, v in tensors.items() if k not in inside}
        write_tensors(folder / tower / "model.safetensors", {k.removeprefix(TOWER): v for k, v in inside.items()})
    if shards == 1:
        write_tensors(folder / "model.safetensors", tensors)
    else:
        write_shards(folder, tensors, shards)
    expect(folder, bunny.open_merged(folder), tokenizer, dtype is not None, dtype)


# Chosen so that answers vary, some end by themselves, and no choice is a near tie.
SEEDS = {
    "phi-siglip": 6,
    "phi2-siglip-trimmed": 1,
    "stablelm-eva": 5,
    "stablelm-siglip": 3,
    "phi-eva-pretrained": 4,
    "phi-siglip-lora": 4,
    "stablelm-siglip-lora": 7,
    "llama-siglip": 25,
    "qwen2-clip": 11,
    "minicpm-siglip": 6,
    "phi3-siglip-s2": 4,
    "phi3-siglip-lora": 5,
}


def phi_siglip(name="phi-siglip", dtype=None):
    merged(name, phi_config, siglip_config(), "mlp2x_gelu", SEEDS["phi-siglip"], dtype=dtype)


def phi2_siglip_trimmed():
    """Phi-2's rotary part (8 of 20 dimensions) and live dropout, a tower without its last layer."""
    base = lambda vocab: phi_config(
        vocab,
        hidden_size=40,
        intermediate_size=96,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_key_value_heads=2,
        partial_rotary_factor=0.4,
        resid_pdrop=0.1,
    )
    seed = SEEDS["phi2-siglip-trimmed"]
    merged("phi2-siglip-trimmed", base, siglip_config(), "linear", seed, trimmed=True, shards=2)


def stablelm_eva():
    merged("stablelm-eva", stablelm_config, eva_config(), "mlp2x_gelu", SEEDS["stablelm-eva"])


def stablelm_siglip():
    """A deeper projector, half precision; the tower's weights are in its own folder only."""
    merged(
        "stablelm-siglip",
        stablelm_config,
        siglip_config(),
        "mlp3x_gelu",
        SEEDS["stablelm-siglip"],
        tower_inside=False,
        dtype=torch.float16,
    )


def llama_siglip():
    """Shared key heads, and a beginning before every text."""
    merged("llama-siglip", llama_config, siglip_config(), "mlp2x_gelu", SEEDS["llama-siglip"])


def qwen2_clip():
    merged("qwen2-clip", qwen2_config, clip_config(), "mlp2x_gelu", SEEDS["qwen2-clip"])


def minicpm_siglip():
    merged("minicpm-siglip", minicpm_config, siglip_config(), "mlp2x_gelu", SEEDS["minicpm-siglip"])


def phi3_siglip_s2():
    """Fused products, a window, and pictures in three sizes: 14 tiles of 2 x 2 patches."""
    tower, seed = siglip_config(image_size=30), SEEDS["phi3-siglip-s2"]
    merged("phi3-siglip-s2", phi3_config, tower, "mlp2x_gelu", seed, scales="30,60,90")


def write_base(folder, config, tensors, tokenizer, seed, dtype):
    """A language model as its makers publish it: more rows than the tokenizer has entries, and
    for Phi a bias of the head, both of which Bunny drops."""
    random = torch.Generator().manual_seed(seed + 1000)
    rows, known = config["vocab_size"], tokenizer.get_vocab_size()
    language = {k: v for k, v in tensors.items() if k.startswith(("model.layers", "model.norm", "model.final"))}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        extra = torch.randn((rows - known, tensors[name].shape[1]), generator=random)
        language[name] = torch.cat([tensors[name], extra])
    if config["model_type"] == "phi":
        language["lm_head.bias"] = torch.randn(rows, generator=random)
    folder.mkdir()
    write_json(folder / "config.json", config)
    write_tokenizer(folder, tokenizer, end_of(config))
    write_tensors(folder / "model.safetensors", {k: v.to(dtype) for k, v in language.items()})


def siglip_as_published(vision):
    """config.json of a whole SigLIP: the vision part says only what differs from the defaults."""
    said = "hidden_size image_size intermediate_size model_type num_attention_heads num_hidden_layers patch_size"
    return {
        "architectures": ["SiglipModel"],
        "initializer_factor": 1.0,
        "model_type": "siglip",
        "text_config": {"hidden_size": 32, "model_type": "siglip_text_model", "num_hidden_layers": 1},
        "torch_dtype": "float32",
        "vision_config": {k: vision[k] for k in said.split()},
    }


def write_tower(folder, tower_config, tensors):
    """The tower as its makers publish it, beside the text encoder it was trained with."""
    write_tower_folder(folder, tower_config)
    tower = {k.removeprefix(TOWER): v for k, v in tensors.items() if k.startswith(TOWER)}
    if "vision_cfg" not in tower_config:
        text = {"text_model.head.bias": torch.ones(4), "logit_scale": torch.ones(1), "logit_bias": torch.ones(1)}
        write_tensors(folder / "model.safetensors", tower | text)
        return
    tower = {"visual." + k.removeprefix("model."): v for k, v in (tower | rope_buffers(tower_config)).items()}
    tower |= {"text.positional_embedding": torch.ones(4, 4), "logit_scale": torch.tensor(2.5)}
    torch.save({k: v.half() for k, v in tower.items()}, folder / "EVA02_CLIP_tiny_psz14.pt")


def open_base(case, config):
    """A base language model and its tower, each in its own folder, as one Bunny: rows cut to the
    tokenizer's length, the head's bias dropped. The projector is still to be loaded."""
    tokenizer = Tokenizer.from_file(str(case / "base" / "tokenizer.json"))
    config = config | {"vocab_size": tokenizer.get_vocab_size()}
    folder = case / config["mm_vision_tower"]
    tower_config = bunny.read_json(folder / "config.json")
    tensors = {k: v for k, v in bunny.read_tensors(case / "base").items() if k != "lm_head.bias"}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][: config["vocab_size"]]
    if "vision_cfg" in tower_config:
        (file,) = folder.glob("*.pt")
        tower = torch.load(file, weights_only=True)
        tower = {"model." + k.removeprefix("visual."): v for k, v in tower.items() if k.startswith("visual.")}
    else:
        tower = {k: v for k, v in bunny.read_tensors(folder).items() if k.startswith("vision_model.")}
    return Bunny(config, tower_config), tensors | {TOWER + k: v for k, v in tower.items()}, tokenizer


def save_pickle(tensors, path):
    torch.save({k: v.to(torch.bfloat16) for k, v in tensors.items()}, path)


def phi_eva_pretrained():
    """After the first stage: a base Phi, EVA-CLIP's own file, and `mm_projector.bin`."""
    case, tokenizer = start("phi-eva-pretrained"), make_tokenizer()
    base = phi_config(tokenizer.get_vocab_size() + 16, num_hidden_layers=2, torch_dtype="float16")
    config = bunny_config(
        base, "eva-clip-tower", 32, "mlp2x_gelu", tokenizer.token_to_id(EOS), tune_mm_mlp_adapter=True
    )
    known = config | {"vocab_size": tokenizer.get_vocab_size()}
    seed = SEEDS["phi-eva-pretrained"]
    tensors = random_weights(Bunny(known, eva_config()), tokenizer, seed)
    write_base(case / "base", base, tensors, tokenizer, seed, torch.float16)
    write_tower(case / "eva-clip-tower", eva_config(), tensors)
    projector = {k: v for k, v in tensors.items() if "mm_projector" in k}
    (case / "bunny-pretrain").mkdir()
    write_json(case / "bunny-pretrain" / "config.json", config)
    save_pickle(projector, case / "bunny-pretrain" / "mm_projector.bin")

    model, tensors, tokenizer = open_base(case, config)
    projector = torch.load(case / "bunny-pretrain" / "mm_projector.bin", weights_only=True)
    expect(case, model.load(tensors | projector), tokenizer)


def lora(name, family, targets, *, unfrozen, dtype):
    """After the second stage: a base model, SigLIP's own folder, a PEFT adapter and
    `non_lora_trainables.bin` (the projector, and the tower where it learned too)."""
    case, tokenizer, seed = start(name), tokenizer_for(family(0)), SEEDS[name]
    base = family(
        tokenizer.get_vocab_size() + 16, num_hidden_layers=2, torch_dtype=str(dtype).removeprefix("torch.")
    )
    vision = siglip_config()
    eos = tokenizer.token_to_id(end_of(base))
    config = bunny_config(base, "siglip-tower", vision["hidden_size"], "mlp2x_gelu", eos, unfreeze_vision_tower=unfrozen)
    known = config | {"vocab_size": tokenizer.get_vocab_size()}
    tensors = random_weights(Bunny(known, vision), tokenizer, seed)
    write_base(case / "base", base, tensors, tokenizer, seed, dtype)
    write_tower(case / "siglip-tower", siglip_as_published(vision), tensors)

    adapter = case / "bunny-lora"
    adapter.mkdir()
    write_json(adapter / "config.json", config)
    model, tensors, tokenizer = open_base(case, config)
    model.load(tensors | {k: torch.zeros_like(v) for k, v in model.named().items() if "mm_projector" in k})
    random = torch.Generator().manual_seed(seed + 2000)
    write_adapter(adapter, model.language, targets, random)
    learned = {
        name: torch.randn(p.shape, generator=random) * (0.1 if p.ndim == 1 else p.shape[1] ** -0.5)
        for name, p in model.named().items()
        if "mm_projector" in name
    }
    if unfrozen:
        learned |= {
            name: value + 0.05 * torch.randn(value.shape, generator=random)
            for name, value in tensors.items()
            if name.startswith(TOWER)
        }
    save_pickle({"base_model.model." + k: v for k, v in learned.items()}, adapter / "non_lora_trainables.bin")

    model, tensors, tokenizer = open_base(case, config)
    learned = torch.load(adapter / "non_lora_trainables.bin", weights_only=True)
    model.load(tensors | {k.removeprefix("base_model.model."): v for k, v in learned.items()})
    model.language = PeftModel.from_pretrained(model.language, adapter).merge_and_unload()
    expect(case, model, tokenizer, only_logits=unfrozen)


def write_adapter(folder, language, targets, random):
    """adapter_config.json and adapter_model.safetensors of a random adapter, as PEFT saves them."""
    config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, bias="none", task_type="CAUSAL_LM", target_modules=targets)
    wrapped = get_peft_model(language, config)
    state = get_peft_model_state_dict(wrapped)
    for name in sorted(state):
        state[name] = torch.randn(state[name].shape, generator=random) * 0.5 * state[name].shape[1] ** -0.5
    write_tensors(folder / "adapter_model.safetensors", {k: v.to(torch.bfloat16) for k, v in state.items()})
    settings = config.to_dict() | {"inference_mode": True, "base_model_name_or_path": "base"}
    settings |= {"target_modules": sorted(targets), "peft_type": "LORA", "task_type": "CAUSAL_LM"}
    write_json(folder / "adapter_config.json", dict(sorted(settings.items())))
    wrapped.unload()


def phi_siglip_lora():
    targets = ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"]
    lora("phi-siglip-lora", phi_config, targets, unfrozen=False, dtype=torch.float32)


def stablelm_siglip_lora():
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora("stablelm-siglip-lora", stablelm_config, targets, unfrozen=True, dtype=torch.float16)


def phi3_siglip_lora():
    """An adapter whose products are fused."""
    targets = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    lora("phi3-siglip-lora", phi3_config, targets, unfrozen=False, dtype=torch.float32)


CASES = {
    "phi-siglip": phi_siglip,
    "phi-siglip-bf16": partial(phi_siglip, "phi-siglip-bf16", torch.bfloat16),
    "phi2-siglip-trimmed": phi2_siglip_trimmed,
    "stablelm-eva": stablelm_eva,
    "stablelm-siglip": stablelm_siglip,
    "phi-eva-pretrained": phi_eva_pretrained,
    "phi-siglip-lora": phi_siglip_lora,
    "stablelm-siglip-lora": stablelm_siglip_lora,
    "llama-siglip": llama_siglip,
    "qwen2-clip": qwen2_clip,
    "minicpm-siglip": minicpm_siglip,
    "phi3-siglip-s2": phi3_siglip_s2,
    "phi3-siglip-lora": phi3_siglip_lora,
}


def main():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, picture in make_pictures().items():
        picture.save(FIXTURES / f"{name}.png")
    for name in sys.argv[1:] or CASES:
        CASES[name]()


if __name__ == "__main__":
    main()
