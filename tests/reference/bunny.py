"""A Bunny put together from public packages: the oracle of the fixtures.

The vision tower is transformers' SigLIP or CLIP or timm's EVA02, the language model transformers' of
its family; the projector, the splice, the greedy loop, S² and MiniCPM's scales are a few lines of torch
(the last two are held against a checkout of the reference by `against.py`). Weights carry the names of
the published checkpoints. Everything runs in f32 on one CPU thread.

    picture -> pixels -> tower -> projector -> features --.
    words   -> chunks -> ids   -> embeddings ---------- splice -> decoder -> logits
"""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.eva import Eva
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
    StableLmConfig,
    StableLmForCausalLM,
)

IMAGE_TOKEN_INDEX = -200
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
TOWER = "model.vision_tower.vision_tower."
SIGLIP_MEAN_STD = ([0.5] * 3, [0.5] * 3)
CLIP_MEAN_STD = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


# --- parts -------------------------------------------------------------------------------------


class SiglipTower(nn.Module):
    """Output of the last layer but one of the whole encoder. A trimmed checkpoint has already
    lost the last layer and the pooling head, and its last layer is that same feature."""

    def __init__(self, config, trimmed=False):
        super().__init__()
        vision = config.get("vision_config", config)
        layers = vision["num_hidden_layers"] - int(trimmed)
        self.config = SiglipVisionConfig(
            **{k: v for k, v in vision.items() if k not in ("model_type", "num_hidden_layers")},
            num_hidden_layers=layers,
            attn_implementation="eager",
        )
        self.config.vision_use_head = not trimmed
        self.vision_model = SiglipVisionModel(self.config)
        self.feature = -1 if trimmed else -2
        self.image_size = self.config.image_size
        self.mean_std = SIGLIP_MEAN_STD

    def forward(self, pixels):
        return self.vision_model(pixels, output_hidden_states=True).hidden_states[self.feature]


class ClipTower(nn.Module):
    """Output of the last layer but one, without the class token."""

    def __init__(self, config):
        super().__init__()
        fields = {k: v for k, v in config.items() if k != "model_type"}
        self.config = CLIPVisionConfig(**fields, attn_implementation="eager")
        self.vision_model = CLIPVisionModel(self.config)
        self.image_size = self.config.image_size
        self.mean_std = CLIP_MEAN_STD

    def forward(self, pixels):
        return self.vision_model(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]


class S2Tower(SiglipTower):
    """SigLIP over pictures of several sizes: scaled by torch's bicubic interpolation, cut into tiles
    of the smallest, and what is seen of the tiles averaged to one grid."""

    def __init__(self, config, scales):
        super().__init__(config)
        self.scales = sorted(int(scale) for scale in scales.split(","))
        self.image_size = self.scales[-1]

    def forward(self, pixels):
        functional, seen = nn.functional, []
        for scale in self.scales:
            side, tile = scale // self.scales[0], self.scales[0]
            view = functional.interpolate(pixels.float(), size=scale, mode="bicubic").to(pixels.dtype)
            rows = []
            for y in range(side):
                row = []
                for x in range(side):
                    part = view[:, :, y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
                    features = super().forward(part)
                    grid = int(features.shape[1] ** 0.5)
                    row.append(features.unflatten(1, (grid, grid)))
                rows.append(torch.cat(row, 2))
            laid = torch.cat(rows, 1).permute(0, 3, 1, 2)
            seen.append(functional.interpolate(laid.float(), size=grid, mode="area").to(laid.dtype))
        return torch.cat(seen, 1).flatten(2).transpose(1, 2)


class EvaTower(nn.Module):
    """EVA02-CLIP: every block but the last, no final norm, without the class token."""

    def __init__(self, config):
        super().__init__()
        vision = config["vision_cfg"]
        width, self.image_size = vision["width"], vision["image_size"]
        self.depth = vision["layers"]
        self.model = Eva(
            img_size=self.image_size,
            patch_size=vision["patch_size"],
            embed_dim=width,
            depth=self.depth,
            num_heads=width // vision["head_width"],
            mlp_ratio=vision["mlp_ratio"],
            num_classes=config["embed_dim"],
            global_pool="token",
            qkv_fused=False,
            swiglu_mlp=True,
            scale_mlp=True,
            scale_attn_inner=True,
            use_rot_pos_emb=True,
            ref_feat_shape=(vision["pt_hw_seq_len"],) * 2,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        self.mean_std = CLIP_MEAN_STD

    def forward(self, pixels):
        (features,) = self.model.forward_intermediates(
            pixels, indices=[self.depth - 2], output_fmt="NLC", intermediates_only=True
        )
        return features

    # timm's name -> EVA-CLIP's own
    RENAMES = [
        (r"\.q_proj\.bias$", ".q_bias"),
        (r"\.v_proj\.bias$", ".v_bias"),
        (r"\.attn\.norm\.", ".attn.inner_attn_ln."),
        (r"\.mlp\.fc1_g\.", ".mlp.w1."),
        (r"\.mlp\.fc1_x\.", ".mlp.w2."),
        (r"\.mlp\.norm\.", ".mlp.ffn_ln."),
        (r"\.mlp\.fc2\.", ".mlp.w3."),
    ]

    @classmethod
    def published(cls, name):
        for pattern, replacement in cls.RENAMES:
            name = re.sub(pattern, replacement, name)
        return name


def rope_tables(vision):
    """EVA's rotary tables as its checkpoints store them: [tokens, head_dim], row angles then
    column angles, each frequency twice side by side, positions scaled to the pre-training grid."""
    grid = vision["image_size"] // vision["patch_size"]
    axis = vision["head_width"] // 2
    frequencies = 10000.0 ** -(torch.arange(0, axis, 2).double() / axis)
    positions = torch.arange(grid).double() / grid * vision["pt_hw_seq_len"]
    angles = torch.outer(positions, frequencies).repeat_interleave(2, -1)  # [grid, axis]
    rows = angles[:, None].expand(grid, grid, axis)
    columns = angles[None].expand(grid, grid, axis)
    angles = torch.cat([rows, columns], -1).reshape(grid * grid, 2 * axis)
    return angles.cos().float(), angles.sin().float()


def make_tower(config, trimmed=False, scales=None):
    if "vision_cfg" in config:
        return EvaTower(config)
    if config["model_type"] == "clip_vision_model":
        return ClipTower(config)
    return S2Tower(config, scales) if scales else SiglipTower(config, trimmed)


def make_projector(kind, width, hidden):
    if kind == "linear":
        return nn.Linear(width, hidden)
    depth = int(re.fullmatch(r"mlp(\d+)x_gelu", kind)[1])
    layers = [nn.Linear(width, hidden)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(hidden, hidden)]
    return nn.Sequential(*layers)


RMS_FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "minicpm": (LlamaConfig, LlamaForCausalLM),
    "phi3": (Phi3Config, Phi3ForCausalLM),
}


def scale_as_minicpm(model, config):
    """What a MiniCPM does beside a Llama: embeddings, both branches of every layer and the last
    vectors are scaled. Hooks, so that nothing of the model's own code changes."""
    branch = config["scale_depth"] / config["num_hidden_layers"] ** 0.5
    width = config["hidden_size"] / config["dim_model_base"]

    def embeddings(_, args, kwargs):
        return args, kwargs | {"inputs_embeds": kwargs["inputs_embeds"] * config["scale_emb"]}

    model.model.register_forward_pre_hook(embeddings, with_kwargs=True)
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(lambda _m, _a, out: (out[0] * branch, *out[1:]))
        layer.mlp.register_forward_hook(lambda _m, _a, out: out * branch)
    model.lm_head.register_forward_pre_hook(lambda _m, args: (args[0] / width,))
    return model


def make_language_model(config):
    """transformers' model of the family, without the head's bias, which Bunny drops."""
    rope = {
        "rope_type": "default",
        "rope_theta": config["rope_theta"],
        "partial_rotary_factor": config.get("partial_rotary_factor", config.get("rope_pct", 1.0)),
    }
    common = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "num_key_value_heads hidden_act max_position_embeddings tie_word_embeddings"
    ).split()
    fields = {k: config[k] for k in common} | {
        "rope_parameters": rope,
        "attn_implementation": "eager",
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if config["model_type"].endswith("phi"):
        fields |= {k: config[k] for k in ("layer_norm_eps", "resid_pdrop", "embd_pdrop")}
        model = PhiForCausalLM(PhiConfig(**fields))
        model.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)
        return model
    family = config["model_type"].removeprefix("bunny-")
    if family in RMS_FAMILIES:
        make_config, make = RMS_FAMILIES[family]
        more = {"sliding_window": config["sliding_window"], "pad_token_id": 0} if family == "phi3" else {}
        if family == "minicpm":
            more["pad_token_id"] = 0
        model = make(make_config(**fields, rms_norm_eps=config["rms_norm_eps"], **more))
        return scale_as_minicpm(model, config) if family == "minicpm" else model
    eps = config.get("layer_norm_eps", config.get("norm_eps"))
    return StableLmForCausalLM(
        StableLmConfig(**fields, layer_norm_eps=eps, use_qkv_bias=config["use_qkv_bias"])
    )


# --- the model ---------------------------------------------------------------------------------


class Bunny(nn.Module):
    """The three parts, addressed by their published names."""

    def __init__(self, config, tower_config, trimmed=False):
        super().__init__()
        self.config = config
        self.tower = make_tower(tower_config, trimmed, config.get("use_s2") and config["s2_scales"])
        self.projector = make_projector(
            config["mm_projector_type"], config["mm_hidden_size"], config["hidden_size"]
        )
        self.language = make_language_model(config)
        self.eval()

    def named(self):
        """Every parameter by its name in a published checkpoint, in a fixed order."""
        out = {}
        for name, parameter in self.language.named_parameters():
            out[name] = parameter
        for name, parameter in self.projector.named_parameters():
            out["model.mm_projector." + name] = parameter
        for name, parameter in self.tower.named_parameters():
            out[TOWER + (EvaTower.published(name) if isinstance(self.tower, EvaTower) else name)] = parameter
        return out

    @torch.no_grad()
    def load(self, tensors):
        """Takes every parameter from `tensors`; a missing, misshapen or unknown one is an error."""
        left = dict(tensors)
        for name, parameter in self.named().items():
            value = left.pop(name)
            assert value.shape == parameter.shape, (name, value.shape, parameter.shape)
            parameter.copy_(value.float())
        left = [name for name in left if ".rope.freqs_" not in name]
        assert not left, f"unexpected tensors: {left}"
        return self

    def encode(self, pixels):
        """[pictures, 3, side, side] -> tower features and projected features, [pictures, tokens, width]."""
        features = self.tower(pixels)
        return features, self.projector(features)

    def splice(self, ids, pictures):
        """Embeddings of one row, each -200 replaced by the next picture's projected features."""
        ids, pictures = torch.as_tensor(ids), iter(pictures)
        embed = self.language.get_input_embeddings()
        pieces, start = [], 0
        for place in (ids == IMAGE_TOKEN_INDEX).nonzero()[:, 0].tolist():
            pieces += [embed(ids[start:place]), next(pictures)]
            start = place + 1
        return torch.cat(pieces + [embed(ids[start:])])

    def logits(self, embeds, mask=None, hidden=None):
        """[rows, positions, hidden_size] -> [rows, positions, vocab_size].

        `mask` is 1 where a position counts; positions are numbered from each row's first 1.
        `hidden`, when a dict, receives the embeddings (`hidden.0`), every layer's output and the
        final norm's."""
        hooks = []
        if hidden is not None:
            hidden["hidden.0"] = embeds * self.config.get("scale_emb", 1)
            backbone = self.language.model
            for i, layer in enumerate(backbone.layers):
                keep = lambda _m, _a, out, i=i: hidden.__setitem__(
                    f"hidden.{i + 1}", out[0] if isinstance(out, tuple) else out
                )
                hooks.append(layer.register_forward_hook(keep))
            norm = getattr(backbone, "final_layernorm", None) or backbone.norm
            hooks.append(norm.register_forward_hook(lambda _m, _a, out: hidden.__setitem__("normed", out)))
        if mask is None:
            mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self.language(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
        ).logits
        for hook in hooks:
            hook.remove()
        return logits

    @torch.no_grad()
    def generate(self, rows, limit, eos):
        """Greedy ids of left-padded rows of embeddings, each ending with `eos` if it came, and
        the smallest lead of a chosen token over the next best. Every step is a whole pass."""
        embed = self.language.get_input_embeddings()
        answers, margin = [[] for _ in rows], float("inf")
        for _ in range(limit):
            embeds, mask = pad_left(rows)
            best = self.logits(embeds, mask)[:, -1].topk(2)
            for i, (ids, lead) in enumerate(zip(best.indices[:, 0].tolist(), best.values)):
                if eos not in answers[i]:
                    answers[i].append(ids)
                    margin = min(margin, (lead[0] - lead[1]).item())
            if all(eos in answer for answer in answers):
                break
            rows = [torch.cat([row, embed(torch.tensor([a[-1]]))]) for row, a in zip(rows, answers)]
        return answers, margin


def pad_left(rows):
    """Rows of [positions, hidden_size] -> one padded tensor and its mask."""
    longest = max(len(row) for row in rows)
    padded = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return padded, mask


# --- files, words and pictures -----------------------------------------------------------------


def read_json(path):
    return json.loads(Path(path).read_text())


def read_tensors(folder):
    """Every tensor of a folder's `model.safetensors` or of its shards."""
    files = sorted(Path(folder).glob("model*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def is_trimmed(tensors, tower_config):
    """Whether a checkpoint's SigLIP has lost its last layer."""
    if "vision_cfg" in tower_config:
        return False
    layers = tower_config.get("vision_config", tower_config)["num_hidden_layers"]
    return not any(f"encoder.layers.{layers - 1}." in name for name in tensors)


def open_merged(folder):
    """A merged checkpoint; tower tensors it lacks come from the tower's own folder."""
    folder = Path(folder)
    config = read_json(folder / "config.json")
    tower_folder = folder / config["mm_vision_tower"]
    tower_config = read_json(tower_folder / "config.json")
    tensors = read_tensors(folder)
    if not any(name.startswith(TOWER) for name in tensors):
        tensors |= {TOWER + k: v for k, v in read_tensors(tower_folder).items()}
    return Bunny(config, tower_config, is_trimmed(tensors, tower_config)).load(tensors)


def prompt_of(turns, end="<|endoftext|>"):
    """A template over (question, answer) pairs; templates differ in the end of an answer alone. The
    last answer may be None."""
    text = SYSTEM + " "
    for question, answer in turns:
        text += f"USER: {question} ASSISTANT:"
        text += f" {answer}{end}" if answer is not None else ""
    return text


def ids_of(tokenizer: Tokenizer, text):
    """Chunks between `<image>` are tokenised one by one and joined by -200; what a tokenizer puts before
    every text stays before the first alone."""
    chunks = [tokenizer.encode(chunk).ids for chunk in text.split("<image>")]
    before = len(tokenizer.encode("").ids)
    ids = chunks[0]
    for chunk in chunks[1:]:
        ids = ids + [IMAGE_TOKEN_INDEX] + chunk[before:]
    return ids


def pixels_of(picture: Image.Image, tower, aspect="pad"):
    """A picture as the tower sees it: squared with the mean colour (`pad`) or squashed (`square`),
    Pillow's bicubic, scaled to 0..1, normalised; [1, 3, side, side]."""
    mean, std = tower.mean_std
    picture = picture.convert("RGB")
    if aspect == "pad" and picture.width != picture.height:
        side = max(picture.size)
        square = Image.new("RGB", (side, side), tuple(int(x * 255) for x in mean))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = square
    # Rows first, then columns, as the Pillow of the reference does; newer ones begin with the
    # columns of tall pictures, and the bytes rounded in between differ.
    side = tower.image_size
    picture = picture.resize((side, picture.height), Image.Resampling.BICUBIC)
    picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    values = np.asarray(picture).astype(np.float64) * (1 / 255)
    values = (values.astype(np.float32) - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(values.transpose(2, 0, 1).copy())[None]
