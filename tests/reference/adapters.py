"""Writes bunny-core/tests/fixtures/adapters: adapters as PEFT saves them, one folder a kind, and the logits
that PEFT gives with each.

    python tests/reference/adapters.py
    python tests/reference/adapters.py PROGRAM   # the other way, see below

The bases are the language models of tests/fixtures/models. What learns is moved away from where PEFT
starts it, so that no matrix is zero. `expected.json` says of each folder its base, and, of those that are
refused, by which field; `expected.safetensors` has the logits of the last three of `IDS`, in f32, with the
adapter beside the layers as PEFT computes it, not merged.

With a PROGRAM (target/debug/bunny-cli) nothing is written: it trains a small adapter on the built-in
model and another on a Phi-3, which PEFT opens without a warning; the weights that PEFT merges are compared
with those that `bunny-cli merge` writes.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import bunny

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/fixtures/models"
OUT = ROOT / "bunny-core/tests/fixtures/adapters"
IDS = [5, 17, 101, 44, 260, 3, 88, 131, 7, 300, 12, 61]
LAYERS = ["q_proj", "v_proj", "fc1"]


def lora(*targets, base="phi-siglip", **settings):
    """A kind: its base and its settings."""
    targets = list(targets) or LAYERS
    return base, {"r": 4, "lora_alpha": 8, "target_modules": targets} | settings


CASES = {
    "plain": lora(),
    "rank-stabilised": lora(use_rslora=True),
    "all-linear": lora(target_modules="all-linear"),
    "regular-expression": lora(target_modules=r".*\.layers\.[01]\.(self_attn\.[qk]_proj|mlp\.fc2)"),
    "layers-to-transform": lora(layers_to_transform=[0, 2], layers_pattern="layers"),
    "exclude-modules": lora(exclude_modules=r".*layers\.1\..*"),
    "alpha-of-a-half": lora(lora_alpha=12.5),
    "rank-pattern": lora(rank_pattern={"q_proj": 2, r"layers\.1\.mlp\.fc1": 6}),
    "alpha-pattern": lora(alpha_pattern={"v_proj": 3, r"model\.layers\.2\.mlp\.fc1": 1.5}),
    "both-patterns-rank-stabilised": lora(
        rank_pattern={r"layers\.[02]\.self_attn\.q_proj": 3}, alpha_pattern={"q_proj": 5, "fc1": 2}, use_rslora=True
    ),
    "bias-all": lora(bias="all"),
    "bias-of-its-layers": lora(bias="lora_only"),
    "bias-of-its-own": lora(lora_bias=True),
    "dora": lora(use_dora=True),
    "dora-rank-stabilised": lora(use_dora=True, use_rslora=True),
    "dora-rank-pattern": lora("q_proj", "up_proj", base="llama-siglip", use_dora=True, rank_pattern={"up_proj": 2}),
    "saved-head": lora(modules_to_save=["lm_head"]),
    "saved-norms": lora(modules_to_save=["input_layernorm", "final_layernorm"]),
    "saved-table": lora("q_proj", base="llama-siglip", modules_to_save=["embed_tokens"]),
    "head": lora("q_proj", "lm_head", base="llama-siglip"),
    "table": lora("q_proj", "embed_tokens", base="llama-siglip"),
    "head-and-table": lora("embed_tokens", "lm_head", base="llama-siglip", use_rslora=True),
    "qwen2": lora("q_proj", "down_proj", base="qwen2-clip", bias="lora_only"),
    "stablelm": lora("k_proj", "gate_proj", base="stablelm-eva"),
    "fused": lora("qkv_proj", "gate_up_proj", "o_proj", "down_proj", base="phi3-siglip-s2"),
    "fused-dora": lora("qkv_proj", "gate_up_proj", base="phi3-siglip-s2", use_dora=True),
    "fused-patterns": lora("qkv_proj", "gate_up_proj", base="phi3-siglip-s2", rank_pattern={"qkv_proj": 2},
                           alpha_pattern={"gate_up_proj": 3}),
    "orthogonal": lora(init_lora_weights="orthogonal"),
    "gaussian": lora(init_lora_weights="gaussian"),
    "half-precision": lora(),
    "bfloat16": lora(),
    "double-precision": lora(),
    "pickled": lora(),
}

# Kinds that change the base's weights in other ways, and the field by which each is refused.
REFUSED = {
    "pissa": (lora(init_lora_weights="pissa"), "init_lora_weights"),
    "olora": (lora(init_lora_weights="olora"), "init_lora_weights"),
    "trainable-tokens": (lora(trainable_token_indices=[1, 2]), "trainable_token_indices"),
    "layer-replication": (lora("q_proj", base="llama-siglip", layer_replication=[[0, 2], [0, 2]]), "layer_replication"),
    "loha": (("phi-siglip", peft.LoHaConfig(r=2, alpha=4, target_modules=["q_proj"])), "peft_type"),
    "lokr": (("phi-siglip", peft.LoKrConfig(r=2, alpha=4, target_modules=["q_proj"])), "peft_type"),
    "ia3": (("phi-siglip", peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM")), "peft_type"),
    "vera": (("phi-siglip", peft.VeraConfig(r=2, target_modules=["q_proj"])), "peft_type"),
    "oft": (("phi-siglip", peft.OFTConfig(oft_block_size=4, target_modules=["q_proj"])), "peft_type"),
}
DTYPES = {"half-precision": torch.float16, "bfloat16": torch.bfloat16, "double-precision": torch.float64}


def language_model(name):
    """The language model of a fixture, as the oracle builds it."""
    return bunny.open_merged(MODELS / name).language


@torch.no_grad()
def move(model, seed):
    """Away from where PEFT starts what learns."""
    random = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        noise = torch.randn(parameter.shape, generator=random)
        if "magnitude" in name:
            parameter.mul_(1 + 0.2 * noise)
        else:
            parameter.add_(0.15 * noise)


def plain_config(folder):
    """Sets in another order each time are put in order; nothing of this machine stays."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    for field in ("target_modules", "modules_to_save", "exclude_modules", "feedforward_modules"):
        if isinstance(config.get(field), list):
            config[field].sort()
    config["base_model_name_or_path"] = None
    file.write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)


@torch.no_grad()
def write(name, base, settings, seed, opens=True):
    folder = OUT / name
    torch.manual_seed(seed)
    config = settings if isinstance(settings, peft.PeftConfig) else LoraConfig(task_type="CAUSAL_LM", **settings)
    model = get_peft_model(language_model(base), config).eval()
    move(model, seed)
    tables = {"lm_head", "embed_tokens"} & set(getattr(config, "target_modules", None) or [])
    model.save_pretrained(
        folder, safe_serialization=name != "pickled", save_embedding_layers=bool(tables) and not isinstance(config.target_modules, str)
    )
    plain_config(folder)
    if name in DTYPES:
        file = folder / "adapter_model.safetensors"
        rounded = {key: value.to(DTYPES[name]) for key, value in load_file(file).items()}
        save_file(rounded, file, {"format": "pt"})
        file.chmod(0o644)
    if not opens:
        return None
    # As whoever opens the folder has it.
    opened = PeftModel.from_pretrained(language_model(base), folder).eval()
    return opened(input_ids=torch.tensor([IDS])).logits[0, -3:]


def fixtures():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    expected, tensors = {}, {}
    for seed, (name, (base, settings)) in enumerate(CASES.items()):
        tensors[name] = write(name, base, settings, seed).contiguous()
        without = language_model(base)(input_ids=torch.tensor([IDS])).logits[0, -3:]
        moved = (tensors[name] - without).abs().max().item()
        assert moved > 0.05, f"{name} does next to nothing"
        expected[name] = {"base": base, "refused": None}
        print(f"{name:32} moves logits by up to {moved:.2f}")
    for name, ((base, settings), field) in REFUSED.items():
        write(name, base, settings, 0, opens=False)
        expected[name] = {"base": base, "refused": field}
        # The configuration is enough to refuse it.
        for file in (OUT / name).glob("adapter_model.*"):
            file.unlink()
        print(f"{name:32} refused")
    save_file(tensors, OUT / "expected.safetensors", {"format": "pt"})
    (OUT / "expected.safetensors").chmod(0o644)
    (OUT / "expected.json").write_text(json.dumps({"peft": peft.__version__, "ids": IDS, "cases": expected}, indent=1) + "\n")


# --- the other way ---------------------------------------------------------------------------------


RECIPE = """
format_version = 1
name = "adapter"
gradient_checkpointing = false
dataloader_num_workers = 1

[finetune]
model_name_or_path = "{model}"
{tower}
data_path = "{data}/finetune.json"
image_folder = "{data}/pictures"
version = "{version}"
model_max_length = 512
max_steps = 3
per_device_train_batch_size = 2
learning_rate = 2e-2
lora_enable = true
lora_r = {rank}
lora_alpha = {alpha}
{more}
"""


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_back(program):
    data = ROOT / "tests/fixtures/training"
    for name, version, rank, alpha, more in [
        ("builtin", "bunny", 8, 16, ""),
        ("phi-siglip", "bunny", 4, 6, ""),
        ("minicpm-siglip", "minicpm", 4, 8, ""),
        ("phi3-siglip-s2", "phi3", 4, 8, ""),
    ]:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            model = MODELS / name
            if name == "builtin":
                model = folder / "builtin"
                run(program, "model", "unpack", model)
            recipe = RECIPE.format(model=model, tower="", data=data, version=version, rank=rank, alpha=alpha, more=more)
            (folder / "recipe.toml").write_text(recipe)
            run(program, "train", folder / "recipe.toml", "--out", folder / "run")
            adapter = folder / "run/finetune"
            run(program, "merge", "--model", adapter, "--dtype", "f32", "--out", folder / "merged")
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                # Between PEFT and transformers themselves.
                warnings.simplefilter("ignore", FutureWarning)
                opened = PeftModel.from_pretrained(bunny.open_merged(model).language, adapter)
            merged = opened.merge_and_unload().state_dict()
            ours = bunny.read_tensors(folder / "merged")
            before = bunny.open_merged(model).language.state_dict()
            compared, worst, moved = 0, 0.0, 0
            for key, value in merged.items():
                if key not in ours:
                    continue
                compared += 1
                worst = max(worst, (ours[key].float() - value).abs().max().item())
                moved += not torch.equal(value, before[key])
            assert compared and moved
            print(f"{name:18} rank {rank}: {compared} tensors, {moved} of them moved, largest difference {worst:.1e}")
            assert worst < 1e-5, name


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        read_back(Path(sys.argv[1]).resolve())
    else:
        with torch.no_grad():
            fixtures()
