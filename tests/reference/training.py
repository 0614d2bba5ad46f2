"""Makes tests/fixtures/training: what one batch teaches, and what ten steps do, in torch.

    python tests/reference/training.py               # everything
    python tests/reference/training.py llama-siglip  # the gradients of some stages, all else as it is

Starts from the checkpoints of tests/fixtures/models (run models.py first). torch gives gradients,
clipping and AdamW, transformers the loss and the cosine schedule, PEFT the adapters. README.md
says what the files hold.
"""

import json
import math
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from transformers import get_cosine_schedule_with_warmup

import bunny
from bunny import IMAGE_TOKEN_INDEX, TOWER
from tiny import EOS, end_of, write_json, write_tensors

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
OUT = FIXTURES / "training"
IGNORE = -100


# --- records to ids and labels -------------------------------------------------------------------


def sentences_of(record):
    """A record's turns, the picture's placeholder first in the turn that names it."""
    sentences = [turn["value"] for turn in record["conversations"]]
    if "image" in record:
        sentences = [
            ("<image>\n" + s.replace("<image>", "").strip()).strip() if "<image>" in s else s
            for s in sentences
        ]
    return sentences


def plain_labels(tokenizer, record):
    """Pre-training: the question is thrown away, the caption and a newline are learned."""
    text = "<image>" + sentences_of(record)[1] + "\n"
    ids = bunny.ids_of(tokenizer, text)
    prefix = len(bunny.ids_of(tokenizer, "<image>"))
    return ids, [IGNORE] * prefix + ids[prefix:]


def conversation_labels(tokenizer, record, end=EOS):
    """Fine-tuning, with a tokenizer whose pad token is the end of answers: the reference's arithmetic.
    A round is its own tokens and one for the end that the split took, where no beginning stands in its
    place; an instruction is its own tokens less that beginning and the lone space at its end, which
    joins the answer's first word. What does not add up is masked whole."""
    sentences = sentences_of(record)
    text = bunny.prompt_of(list(zip(sentences[::2], sentences[1::2])), end)
    before = len(tokenizer.encode("").ids)
    if "image" in record:
        tokens = lambda text: bunny.ids_of(tokenizer, text)
    else:
        tokens = lambda text: tokenizer.encode(text).ids
    ids = tokens(text)
    labels, place, rounds = [IGNORE] * before + ids[before:], before, 0
    for part in text.split(end):
        halves = part.split(" ASSISTANT: ")
        if len(halves) != 2:
            break
        instruction = len(tokens(halves[0] + " ASSISTANT: ")) - 1 - before
        labels[place : place + instruction] = [IGNORE] * instruction
        place += len(tokens(part)) + 1 - before
        rounds += 1
    labels[place:] = [IGNORE] * len(labels[place:])
    if place - rounds != sum(i != tokenizer.token_to_id(end) for i in ids):
        labels = [IGNORE] * len(ids)
    return ids, labels


# --- a batch through the model -------------------------------------------------------------------


@dataclass
class Row:
    ids: list
    labels: list
    pixels: torch.Tensor | None


def rows_of(records, folder, tokenizer, tower, end, *, plain):
    """Records as rows: `plain` squashes pictures, conversations pad them."""
    rows = []
    for record in records:
        if plain:
            ids, labels = plain_labels(tokenizer, record)
        else:
            ids, labels = conversation_labels(tokenizer, record, end)
        pixels = None
        if "image" in record:
            picture = Image.open(folder / record["image"])
            pixels = bunny.pixels_of(picture, tower, "square" if plain else "pad")
        rows.append(Row(ids, labels, pixels))
    return rows


def loss_of(model, language, rows, tokens=None):
    """Cross-entropy of a micro-batch, padded on the right: its mean over answer tokens, or its
    sum over `tokens`. `language` is the model's own or PEFT's wrapper around it."""
    dtype = next(model.parameters()).dtype
    embeds, labels = [], []
    for row in rows:
        features = []
        if row.pixels is not None:
            features = [model.encode(row.pixels.to(dtype))[1][0]]
        embeds.append(model.splice(row.ids, features))
        spread = []
        for i, label in zip(row.ids, row.labels):
            spread += [IGNORE] * len(features[0]) if i == IMAGE_TOKEN_INDEX else [label]
        labels.append(torch.tensor(spread))
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(e), dtype=torch.long) for e in embeds], True)
    embeds = nn.utils.rnn.pad_sequence(embeds, True)
    labels = nn.utils.rnn.pad_sequence(labels, True, IGNORE)
    positions = (mask.cumsum(-1) - 1) * mask
    more = {} if tokens is None else {"num_items_in_batch": tokens}
    return language(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions, labels=labels, use_cache=False, **more
    ).loss


def answer_tokens(rows):
    return sum(label != IGNORE for row in rows for label in row.labels[1:])


# --- what learns -----------------------------------------------------------------------------------

LLAMA_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LINEARS = {
    "bunny-phi": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
    "bunny-stablelm": LLAMA_LINEARS,
    "bunny-llama": LLAMA_LINEARS,
    "bunny-qwen2": LLAMA_LINEARS,
    "bunny-minicpm": LLAMA_LINEARS,
    "bunny-phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
}


@dataclass
class Stage:
    """What learns, from which checkpoint, and at what rates."""

    model: str = "phi-siglip"
    records: str = "finetune.json"
    learns: list = field(default_factory=lambda: ["projector"])  # projector, lora, language, tower
    learning_rate: float = 2e-3
    projector_learning_rate: float | None = None  # of the tower too
    weight_decay: float = 0.0  # of matrices; biases and norms are never decayed
    batch: int = 2
    accumulate: int = 1
    average: str = "micro_batches"  # or "tokens": over all answer tokens of the step


def make_adapter(model, settings_folder):
    """PEFT's wrapper around the language model, holding the adapter of a folder."""
    language = get_peft_model(
        model.language,
        LoraConfig(
            r=8,
            lora_alpha=16,
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
            target_modules=LINEARS[model.config["model_type"]],
        ),
    )
    state = load_file(settings_folder / "adapter_model.safetensors")
    own = {k.replace(".default", ""): p for k, p in language.named_parameters() if "lora_" in k}
    assert state.keys() == own.keys()
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])
    return language


def learners(model, language, learns):
    """Every tensor that learns, by its name in files, and nothing else requires a gradient."""
    named = model.named() if "lora" not in learns else {
        name.replace(".base_layer", ""): p for name, p in model.named().items() if "lora_" not in name
    }
    chosen = {}
    for name, parameter in named.items():
        part = "tower" if name.startswith(TOWER) else "projector" if "mm_projector" in name else "language"
        parameter.requires_grad_(part in learns)
        if part in learns:
            chosen[name] = parameter
    for name, parameter in language.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(True)
            chosen[name.replace(".default", "")] = parameter
    return chosen


def open_stage(stage, dtype, adapters):
    """The model, the language model to call, what learns, and the tokenizer. In f64, attention is
    torch's own, which keeps to that type throughout."""
    folder = FIXTURES / "models" / stage.model
    model = bunny.open_merged(folder)
    language = model.language
    if "lora" in stage.learns:
        language = make_adapter(model, adapters)
    model.to(dtype)
    if dtype == torch.float64:
        model.language.set_attn_implementation("sdpa")
    chosen = learners(model, language, stage.learns)
    return model, language, chosen, Tokenizer.from_file(str(folder / "tokenizer.json"))


# --- one batch, and many steps -------------------------------------------------------------------------


def gradients(stage, count, dtype=torch.float32):
    """The loss of the first `count` records as one batch, and its gradient in all that learns."""
    model, language, chosen, tokenizer = open_stage(stage, dtype, OUT / f"adapter-{stage.model}")
    rows = open_rows(stage, tokenizer, model)[:count]
    loss = loss_of(model, language, rows)
    loss.backward()
    reached = {name: p.grad for name, p in chosen.items() if p.grad is not None}
    return loss.item(), reached


def open_rows(stage, tokenizer, model):
    records = json.loads((OUT / stage.records).read_text())
    plain = stage.records == "pretrain.json"
    return rows_of(records, OUT / "pictures", tokenizer, model.tower, end_of(model.config), plain=plain)


def groups(stage, chosen):
    """Parameter groups: the projector and the tower at their own rate, biases and norms undecayed."""
    out = []
    for beside in (False, True):
        for matrix in (True, False):
            members = [
                p
                for name, p in chosen.items()
                if ("mm_projector" in name or name.startswith(TOWER)) == beside and (p.ndim > 1) == matrix
            ]
            own = beside and stage.projector_learning_rate is not None
            out.append(
                {
                    "params": members,
                    "lr": stage.projector_learning_rate if own else stage.learning_rate,
                    "weight_decay": stage.weight_decay if matrix else 0.0,
                }
            )
    return out


def run(stage, model, language, chosen, rows):
    """Trains over `rows` in order; the line of every step. Learning rates are those the step used."""
    optimizer = torch.optim.AdamW(groups(stage, chosen), betas=(0.9, 0.999), eps=1e-8, foreach=False)
    per_step = stage.batch * stage.accumulate
    steps = len(rows) // per_step
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(0.03 * steps), steps)
    trace = []
    for step in range(steps):
        taken = rows[step * per_step : (step + 1) * per_step]
        total = 0.0
        for micro in range(stage.accumulate):
            part = taken[micro * stage.batch : (micro + 1) * stage.batch]
            if stage.average == "tokens":
                loss = loss_of(model, language, part, answer_tokens(taken))
            else:
                loss = loss_of(model, language, part) / stage.accumulate
            loss.backward()
            total += loss.item()
        norm = nn.utils.clip_grad_norm_(list(chosen.values()), 1.0)
        line = {"step": step + 1, "loss": total, "grad_norm": norm.item()}
        rates = [group["lr"] for group in optimizer.param_groups]
        trace.append(line | {"learning_rate": rates[0], "projector_learning_rate": rates[-1]})
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return trace


# --- the data --------------------------------------------------------------------------------------------

WORDS = "a the red blue small big dog cat tree house sky sits runs near under on of with and light".split()


def make_data(count=20):
    """Captions and conversations over small pictures; every fourth conversation has no picture."""
    random = np.random.default_rng(7)
    pick = lambda low, high: " ".join(random.choice(WORDS, random.integers(low, high)))
    folder = OUT / "pictures"
    folder.mkdir(parents=True)
    captions, conversations = [], []
    for i in range(count):
        picture = make_picture(random)
        picture.save(folder / f"{i:02}.png", optimize=True)
        captions.append(
            {
                "id": f"c{i}",
                "image": f"{i:02}.png",
                "conversations": [
                    {"from": "human", "value": "Provide a brief description of the given image.\n<image>"},
                    {"from": "gpt", "value": pick(2, 12).capitalize() + "."},
                ],
            }
        )
        record, turns = {"id": f"q{i}"}, []
        for turn in range(random.integers(1, 4)):
            question = pick(3, 9) + "?"
            if turn == 0 and i % 4 != 2:
                record["image"] = f"{i:02}.png"
                question = "<image>\n" + question if i % 3 else question + "\n<image>"
            turns += [{"from": "human", "value": question}, {"from": "gpt", "value": pick(1, 12) + "."}]
        conversations.append(record | {"conversations": turns})
    write_json(OUT / "pretrain.json", captions)
    write_json(OUT / "finetune.json", conversations)


def make_picture(random):
    """Two rectangles and an ellipse on a ground of one colour; wide, tall or square."""
    size = [(36, 24), (22, 34), (30, 30)][random.integers(3)]
    colour = lambda: tuple(int(c) for c in random.integers(0, 256, 3))
    picture = Image.new("RGB", size, colour())
    draw = ImageDraw.Draw(picture)
    for shape in (draw.rectangle, draw.rectangle, draw.ellipse):
        x, y = int(random.integers(0, size[0] - 8)), int(random.integers(0, size[1] - 8))
        shape([x, y, x + int(random.integers(4, 16)), y + int(random.integers(4, 16))], fill=colour())
    return picture


def make_initial_adapter(name, seed):
    """A as PEFT starts it, B small instead of zero, so that the first gradient reaches both."""
    model = bunny.open_merged(FIXTURES / "models" / name)
    targets = LINEARS[model.config["model_type"]]
    config = LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", target_modules=targets
    )
    state = get_peft_model_state_dict(get_peft_model(model.language, config))
    random = torch.Generator().manual_seed(seed)
    for key in sorted(state):
        shape = state[key].shape
        bound = 1 / shape[1] ** 0.5
        uniform = (torch.rand(shape, generator=random) * 2 - 1) * bound
        state[key] = uniform if "lora_A" in key else 0.1 * uniform
    folder = OUT / f"adapter-{name}"
    folder.mkdir(exist_ok=True)
    write_tensors(folder / "adapter_model.safetensors", state)
    settings = config.to_dict() | {"peft_type": "LORA", "task_type": "CAUSAL_LM", "target_modules": sorted(targets)}
    write_json(folder / "adapter_config.json", dict(sorted(settings.items())))


# --- what is made ----------------------------------------------------------------------------------------

PRETRAIN = {"records": "pretrain.json", "learns": ["projector"], "learning_rate": 1e-3}
LORA = {"learns": ["projector", "lora"], "learning_rate": 2e-3, "projector_learning_rate": 2e-4}
TOWER_TOO = LORA | {"learns": ["projector", "lora", "tower"]}
FULL = {"learns": ["projector", "language"], "learning_rate": 5e-4}

GRADIENTS = {
    "pretrain": Stage(**PRETRAIN),
    "full": Stage(**FULL),
    "tower": Stage(**TOWER_TOO),  # the adapter and the projector too
    "stablelm-eva": Stage(model="stablelm-eva", **TOWER_TOO),
    "llama-siglip": Stage(model="llama-siglip", **LORA),
    "qwen2-clip": Stage(model="qwen2-clip", **TOWER_TOO),
    "minicpm-siglip": Stage(model="minicpm-siglip", **FULL),
    "phi3-siglip-s2": Stage(model="phi3-siglip-s2", **TOWER_TOO),
}
# Those whose adapters are made beside their gradients.
FAMILIES = ["llama-siglip", "qwen2-clip", "minicpm-siglip", "phi3-siglip-s2"]
RUNS = {
    "pretrain": Stage(**PRETRAIN),
    "lora": Stage(**LORA),
    "lora-accumulated": Stage(**LORA, accumulate=2),
    "lora-accumulated-tokens": Stage(**LORA, accumulate=2, average="tokens"),
    "full-decayed": Stage(**FULL, weight_decay=0.1),
    "tower": Stage(**TOWER_TOO),
}


def difference(ours, theirs):
    """Largest absolute difference of each tensor."""
    return {name: (ours[name].double() - theirs[name]).abs().max().item() for name in sorted(ours)}


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    make_data()
    for seed, name in enumerate(("phi-siglip", "stablelm-eva")):
        make_initial_adapter(name, seed)
    write_labels()
    expected = {"gradients": {}, "runs": {}}
    for name in GRADIENTS:
        expected["gradients"][name] = write_gradients(name)
    write_runs(expected)
    write_json(OUT / "expected.json", expected)


def only(names):
    """Makes the gradients of some stages again, or for the first time."""
    expected = json.loads((OUT / "expected.json").read_text())
    for name in names:
        expected["gradients"][name] = write_gradients(name)
        write_json(OUT / "expected.json", expected)


def write_gradients(name):
    stage = GRADIENTS[name]
    if name in FAMILIES and "lora" in stage.learns:
        make_initial_adapter(name, 10 + FAMILIES.index(name))
    loss, found = gradients(stage, 4)
    exact_loss, exact = gradients(stage, 4, torch.float64)
    write_tensors(OUT / "gradients" / f"{name}.safetensors", found)
    rounding = difference(found, exact)
    print(f"gradients {name}: loss {loss:.4f}, {len(found)} tensors, f32 is {max(rounding.values()):.1e} off f64")
    return {
        "stage": asdict(stage) | {"batch": 4},
        "loss": loss,
        "rounding": {"loss": abs(loss - exact_loss), "gradient": max(rounding.values())},
    }


def write_runs(expected):
    for name, stage in RUNS.items():
        trace, final, begun = run_in(stage, torch.float32)
        exact_trace, exact, _ = run_in(stage, torch.float64)
        write_tensors(OUT / "runs" / f"{name}.safetensors", final)
        rounding = difference(final, exact)
        expected["runs"][name] = {
            "stage": asdict(stage),
            "trace": trace,
            "rounding": {
                "loss": max(abs(a["loss"] - b["loss"]) for a, b in zip(trace, exact_trace)),
                "grad_norm": max(abs(a["grad_norm"] - b["grad_norm"]) for a, b in zip(trace, exact_trace)),
                "weights": rounding,
            },
        }
        moved = difference(final, begun)
        worst = max(rounding, key=rounding.get)
        print(
            f"run {name}: loss {trace[0]['loss']:.4f} -> {trace[-1]['loss']:.4f}, moved {max(moved.values()):.1e}, "
            f"f32 is {rounding[worst]:.1e} off f64 ({worst})"
        )


def run_in(stage, dtype):
    model, language, chosen, tokenizer = open_stage(stage, dtype, OUT / f"adapter-{stage.model}")
    begun = {name: p.detach().clone() for name, p in chosen.items()}
    trace = run(stage, model, language, chosen, open_rows(stage, tokenizer, model))
    return trace, {name: p.detach() for name, p in chosen.items()}, begun


def write_labels():
    """Ids and labels of every record, before the picture is spread over its positions."""
    tokenizer = Tokenizer.from_file(str(FIXTURES / "models" / "phi-siglip" / "tokenizer.json"))
    out = {}
    for file, make in (("pretrain", plain_labels), ("finetune", conversation_labels)):
        records = json.loads((OUT / f"{file}.json").read_text())
        made = [make(tokenizer, record) for record in records]
        assert all(any(label != IGNORE for label in labels) for _, labels in made)
        out[file] = [{"id": r["id"], "input_ids": i, "labels": l} for r, (i, l) in zip(records, made)]
    write_json(OUT / "labels.json", out)


if __name__ == "__main__":
    only(sys.argv[1:]) if sys.argv[1:] else main()
