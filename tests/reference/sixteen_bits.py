"""Makes tests/fixtures/models/sixteen_bits.json: how far 16 bits take the reference from itself.

    python tests/reference/sixteen_bits.py              # every case
    python tests/reference/sixteen_bits.py llama-siglip # some, the others as they are

Opens every case of tests/fixtures/models (run models.py first), makes sure that in f32 it is what
`expected.safetensors` says, and runs it again with weights and activations in f16 and in bf16. A
part's error is the root of its mean square, relative to the largest expected number: the largest
difference hangs on a single position, and moves threefold with where numbers are rounded.
"""

import copy
import sys

import torch
from PIL import Image
from peft import PeftModel
from safetensors.torch import load_file

import bunny
from models import CASES, FIXTURES, open_base
from tiny import write_json

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16}


def open_case(folder):
    """A case's model in f32, as models.py opened it to say what is expected."""
    if (folder / "config.json").exists():
        return bunny.open_merged(folder)
    (learned,) = folder.glob("bunny-*")
    (file,) = learned.glob("*.bin")
    model, tensors, _ = open_base(folder, bunny.read_json(learned / "config.json"))
    trained = torch.load(file, weights_only=True)
    model.load(tensors | {k.removeprefix("base_model.model."): v for k, v in trained.items()})
    if (learned / "adapter_config.json").exists():
        model.language = PeftModel.from_pretrained(model.language, learned).merge_and_unload()
    return model


def rounded(model, dtype):
    """A copy in `dtype`. Rotary frequencies stay in f32, as where transformers itself opens a
    checkpoint in 16 bits: `.to` alone would round them, and angles grow with the position."""
    copied = copy.deepcopy(model).to(dtype)
    exact = dict(model.named_buffers())
    for name, buffer in copied.named_buffers():
        if name.endswith("inv_freq"):
            buffer.data = exact[name].clone()
    return copied


def parts(model, pixels, ids):
    """What flows through the first turn about `wide.png`, by its names in the fixtures."""
    tower, projected = model.encode(pixels.to(next(model.parameters()).dtype))
    hidden = {}
    logits = model.logits(model.splice(ids, projected)[None], hidden=hidden)
    turn = {f"wide.0.{k}": v for k, v in (hidden | {"logits": logits}).items()}
    return {"wide.tower": tower, "wide.projected": projected} | turn


def errors(found, expected, size):
    """The error of every part that the case keeps, differences summed up by `size`."""
    out = {}
    for name, part in found.items():
        if name in expected:
            off = size(part[0].float() - expected[name])
            out[name] = (off / expected[name].abs().max()).item()
    return out


def largest(x):
    return x.abs().max()


def root_mean_square(x):
    return x.square().mean().sqrt()


def measure(folder):
    model, expected = open_case(folder), load_file(folder / "expected.safetensors")
    turn = bunny.read_json(folder / "expected.json")["turns"][0]
    assert turn["name"] == "wide.0"
    pixels = bunny.pixels_of(Image.open(FIXTURES / turn["picture"]), model.tower)
    run = lambda model, size: errors(parts(model, pixels, turn["input_ids"]), expected, size)
    exact = run(model, largest)
    assert max(exact.values()) < 1e-5, f"{folder.name}: not what is expected in f32: {exact}"
    out = {}
    for name, dtype in sorted(DTYPES.items()):
        found = sorted(run(rounded(model, dtype), root_mean_square).items())
        out[name] = {part: float(f"{error:.3g}") for part, error in found}
        worst, error = max(found, key=lambda entry: entry[1])
        print(f"{folder.name}: {name} errs by {error:.1e} at {worst}")
    return out


@torch.no_grad()
def main():
    file, names = FIXTURES / "sixteen_bits.json", sys.argv[1:]
    found = bunny.read_json(file) if names else {}
    found |= {name: measure(FIXTURES / name) for name in names or CASES}
    write_json(file, dict(sorted(found.items())))


if __name__ == "__main__":
    main()
