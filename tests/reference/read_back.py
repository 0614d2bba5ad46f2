"""Reads a model that bunny has saved with transformers, and asks it what the fixtures asked.

    bunny-cli merge --model tests/fixtures/models/phi-siglip-lora/bunny-lora \\
        --model-base tests/fixtures/models/phi-siglip-lora/base \\
        --vision-tower tests/fixtures/models/phi-siglip-lora/siglip-tower --dtype f32 --out saved
    python tests/reference/read_back.py saved tests/fixtures/models/phi-siglip-lora

`expected.json` of the second folder holds the answers: the greedy ids must be equal. Shards, index,
names, shapes, tokenizer and configuration are all as the packages themselves read them.
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoTokenizer

import bunny


def main():
    saved, case = map(Path, sys.argv[1:3])
    model = bunny.open_merged(saved)
    tokenizer = AutoTokenizer.from_pretrained(saved)
    expected = bunny.read_json(case / "expected.json")
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    for turn in expected["turns"]:
        pictures = []
        if turn["picture"]:
            picture = Image.open(case.parent / turn["picture"])
            _, projected = model.encode(bunny.pixels_of(picture, model.tower))
            pictures = [projected[0]]
        rows = [model.splice(turn["input_ids"], pictures)]
        (ids,), _ = model.generate(rows, expected["max_new_tokens"], end)
        if ids != turn["generated_ids"]:
            raise SystemExit(f"{turn['name']}: {ids} instead of {turn['generated_ids']}")
        text = tokenizer.decode(ids, skip_special_tokens=True).strip()
        if text != turn["generated_text"]:
            raise SystemExit(f"{turn['name']}: {text!r} instead of {turn['generated_text']!r}")
        print(f"{turn['name']}: {len(ids)} tokens, the same")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
