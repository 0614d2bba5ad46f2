#!/usr/bin/env python3
"""How many short questions about few pictures bunny answers in a minute, and transformers.

    python benches/peers/evaluation.py --bunny target/release/bunny-cli --folder DIR

170 questions over 10 pictures, 17 a picture as in POPE, answers of at most 8 tokens, a Bunny of true shape with random
weights (written to DIR once, 6 GB in bf16; nothing is downloaded). bunny answers all of them with `ask`: it reads a
picture, and what its questions begin with, once. transformers generates as the reference's evaluation does, a picture
through the tower for each question, in batches of every size asked for, of which the best counts; each question costs
it the same, so it is asked some of them (--peer-questions), and the rate is what is compared. Both are asked anew each
round, in turns. Beforehand bunny answers once more in single file and in f32 with few questions: the answers are to be
the same words as in batches.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import common

REFERENCE = pathlib.Path(__file__).resolve().parents[2] / "tests" / "reference"
OBJECTS = "dog cat car tree house person chair table bottle boat bird horse bench clock kite book cup".split()
MOST_TOKENS = 8


def write_questions(folder, pictures):
    """Pictures of noise and stripes, 640 by 480, and what is asked about them."""
    import numpy as np
    from PIL import Image

    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(pictures):
        random = np.random.default_rng(number)
        waves = np.sin(np.arange(640)[None, :, None] / (9 + number) + np.arange(480)[:, None, None] / 31)
        values = (127 + 90 * waves + random.normal(0, 20, (480, 640, 3))).clip(0, 255).astype(np.uint8)
        name = f"{number:012}.jpg"
        Image.fromarray(values).save(folder / "pictures" / name, quality=90)
        for thing in OBJECTS:
            text = f"Is there a {thing} in the image?\nAnswer the question using a single word or phrase."
            rows.append({"question_id": len(rows) + 1, "image": name, "text": text})
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def write_model(folder, arch, dtype):
    """A Bunny as it is published, its tower in a folder beside; the weights are what `build` makes."""
    sys.path.insert(0, str(REFERENCE))
    import tiny

    language, tower, projector = common.build(arch, common.dtype_of(dtype))
    tokenizer = tiny.make_tokenizer()
    shape = {key: value for key, value in common.LANGUAGE[arch].items() if key not in ("family", "heads", "rotary")}
    shape |= {"num_attention_heads": common.LANGUAGE[arch]["heads"], "num_key_value_heads": common.LANGUAGE[arch]["heads"]}
    shape |= {"partial_rotary_factor": common.LANGUAGE[arch]["rotary"], "torch_dtype": str(language.dtype).split(".")[1]}
    base = {"phi": tiny.phi_config, "stablelm": tiny.stablelm_config}[common.LANGUAGE[arch]["family"]]
    eos = tokenizer.token_to_id(tiny.EOS)
    config = tiny.bunny_config(base(shape["vocab_size"], **shape), "tower", 1152, "mlp2x_gelu", eos)
    (folder / "tower").mkdir(parents=True, exist_ok=True)
    tiny.write_json(folder / "config.json", config)
    tiny.write_tokenizer(folder, tokenizer)
    tensors = dict(language.state_dict())
    tensors |= {f"model.mm_projector.{name}": value for name, value in projector.state_dict().items()}
    tiny.write_tensors(folder / "model.safetensors", tensors)

    # The last of 27 layers is in the file and is never read.
    seen = {name if name.startswith("vision_model.") else f"vision_model.{name}": value
            for name, value in tower.state_dict().items()}
    last = {name.replace("layers.25.", "layers.26."): value.clone() for name, value in seen.items() if "layers.25." in name}
    tiny.write_tensors(folder / "tower" / "model.safetensors", seen | last)
    sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    tiny.write_json(folder / "tower" / "config.json", tiny.siglip_config(**sizes, image_size=384))
    tiny.write_json(folder / "tower" / "preprocessor_config.json", tiny.siglip_processor(384))


def worker(args):
    """One process of transformers: questions a minute in each size of batch."""
    sys.path.insert(0, str(REFERENCE))
    import bunny
    import torch
    from PIL import Image
    from tokenizers import Tokenizer

    torch.set_num_threads(args.threads)
    dtype = common.dtype_of(args.worker)
    language, tower, projector = common.build(args.arch, dtype)
    tokenizer = Tokenizer.from_file(str(args.folder / "model" / "tokenizer.json"))
    rows = [json.loads(line) for line in (args.folder / "questions.jsonl").read_text().splitlines()]
    table = language.get_input_embeddings()

    def pixels_of(row):
        image = Image.open(args.folder / "pictures" / row["image"]).convert("RGB")
        side = max(image.size)
        square = Image.new("RGB", (side, side), (127, 127, 127))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        values = torch.frombuffer(bytearray(square.resize((384, 384), Image.Resampling.BICUBIC).tobytes()), dtype=torch.uint8)
        return (values.reshape(384, 384, 3).permute(2, 0, 1) / 127.5 - 1).to(dtype)

    def answer(batch):
        features = projector(tower(pixel_values=torch.stack([pixels_of(row) for row in batch])).last_hidden_state)
        embeds = []
        for row, seen in zip(batch, features):
            ids = bunny.ids_of(tokenizer, bunny.prompt_of([("<image>\n" + row["text"], None)]))
            at = ids.index(-200)
            parts = [table(torch.tensor(ids[:at])), seen, table(torch.tensor(ids[at + 1 :]))]
            embeds.append(torch.cat(parts))
        longest = max(len(one) for one in embeds)
        padded = torch.zeros(len(batch), longest, embeds[0].shape[1], dtype=dtype)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for at, one in enumerate(embeds):
            padded[at, longest - len(one) :], mask[at, longest - len(one) :] = one, 1
        language.generate(inputs_embeds=padded, attention_mask=mask, max_new_tokens=MOST_TOKENS, do_sample=False,
                          pad_token_id=0, eos_token_id=None)

    rates = {}
    with torch.inference_mode():
        answer(rows[:1])
        for size in args.batches:
            begun = time.perf_counter()
            asked = rows[: max(size, args.peer_questions // size * size)]
            for at in range(0, len(asked), size):
                answer(asked[at : at + size])
            rates[size] = 60 * len(asked) / (time.perf_counter() - begun)
            print(f"  batches of {size}: {rates[size]:.2f} questions a minute", file=sys.stderr, flush=True)
    best = max(rates, key=rates.get)
    print(json.dumps({"questions_per_minute": rates[best], "batch": best, "rates": rates,
                      "peak_memory_bytes": common.peak_memory("cpu")}))


def ask(args, out, more=(), questions="questions.jsonl"):
    """Seconds in which bunny answers a file of questions, its load included, and the answers."""
    out.unlink(missing_ok=True)
    command = [args.bunny, "ask", args.folder / questions, "--images", args.folder / "pictures", "--out", out,
               "--model", args.folder / "model", "--max-new-tokens", str(MOST_TOKENS), *more, *args.bunny_args.split()]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {"RAYON_NUM_THREADS": str(args.threads)})
    seconds = time.perf_counter() - begun
    return seconds, [json.loads(line)["text"] for line in out.read_text().splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.arguments(parser)
    parser.set_defaults(dtype=["bf16"])
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--pictures", type=int, default=10, help="each with 17 questions")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8], help="sizes of transformers' batches")
    parser.add_argument("--peer-questions", type=int, default=8, help="questions that transformers is asked in each size")
    parser.add_argument("--alike", type=int, default=6, help="questions that bunny answers one by one as well, in f32")
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    rows = write_questions(args.folder, args.pictures)
    if not (args.folder / "model" / "model.safetensors").exists():
        write_model(args.folder / "model", args.arch, args.dtype[0])
    if args.bunny and args.alike:
        some = [json.dumps(row) + "\n" for row in rows[: args.alike]]
        (args.folder / "some.jsonl").write_text("".join(some))
        answers = [ask(args, args.folder / f"some.{batch}.jsonl", ["--dtype", "f32", "--batch", str(batch)], "some.jsonl")[1]
                   for batch in (1, args.alike)]
        if answers[0] != answers[1]:
            raise SystemExit(f"answers in f32 differ in batches: {answers}")
        print(f"{args.alike} answers in f32 are the same one by one and in a batch", file=sys.stderr)
    runs = []
    for _ in range(args.rounds):
        own = [sys.executable, *sys.argv, "--worker", args.dtype[0]]
        runs.append({"peer": f"transformers {args.dtype[0]}"} | common.launch(own, os.environ | {"OMP_NUM_THREADS": str(args.threads)}))
        if args.bunny:
            load = os.getloadavg()[0]
            seconds, answers = ask(args, args.folder / "answers.jsonl")
            if len(answers) != len(rows):
                raise SystemExit(f"{len(answers)} answers to {len(rows)} questions")
            runs.append({"peer": "bunny", "questions_per_minute": 60 * len(rows) / seconds, "load_before": load,
                         "wall_seconds": seconds})
    common.report(args, runs, [("questions a minute", "questions_per_minute", 1, "/min", True)])


if __name__ == "__main__":
    main()
