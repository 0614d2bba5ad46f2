"""Holds what `bunny-cli export llava` writes against transformers, which opens it as it is.

    python tests/reference/llava_opens.py target/debug/bunny-cli

For the built-in model and the small random ones of tests/fixtures/models, every family and every tower
that the format holds: the model is exported in f32, opened by LlavaForConditionalGeneration and
AutoProcessor without a missing or an unexpected key, and asked twenty questions about pictures. The
features of each picture are compared with the oracle's (`bunny.py`), and the greedy answers with those of
`bunny-cli ask`. Pixels are resized by Pillow in both. Ends with 0 if every answer is equal.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
from transformers.utils import logging

import bunny

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/fixtures/models"
PICTURES = [*(ROOT / "examples/pictures").glob("*.jpg"), MODELS / "wide.png", MODELS / "tall.png"]
QUESTIONS = [
    "What is in the picture?", "Describe the image in detail.", "How many shapes are there?",
    "What colour is the largest thing?", "Is there a circle?", "What is on the left?", "What does it say?",
    "Is the picture dark or bright?", "Which shape is at the top?", "Are there more red things than blue ones?",
]
ANSWER = 24
PILLOW = {"use_fast": False} if transformers.__version__.startswith("4.") else {"backend": "pil"}
# Name, parts beside the model itself, and the class that its language model is written as.
CASES = [
    ("builtin", {}, "phi"),
    ("phi-siglip", {}, "phi"),
    ("phi-siglip-lora", {"model": "bunny-lora", "base": "base", "tower": "siglip-tower"}, "phi"),
    ("phi-siglip-int4", {}, "phi"),
    ("stablelm-siglip-lora", {"model": "bunny-lora", "base": "base", "tower": "siglip-tower"}, "stablelm"),
    ("qwen2-clip", {}, "qwen2"),
    ("llama-siglip", {}, "llama"),
    ("minicpm-siglip", {}, "llama"),
    ("phi3-siglip-lora", {"model": "bunny-lora", "base": "base", "tower": "siglip-tower"}, "phi3"),
]
REFUSED = ["stablelm-eva", "phi3-siglip-s2", "stablelm-siglip", "phi2-siglip-trimmed"]


if transformers.__version__.startswith("4."):
    # There the towers' own names begin with `vision_model.` once more. The oracle's language model, which
    # knows no `rope_parameters` of 4, is not asked here.
    named = bunny.Bunny.named
    twice, once = "vision_model.vision_model.", "vision_model."
    bunny.Bunny.named = lambda self: {name.replace(twice, once): value for name, value in named(self).items()}


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


def parts(name, given):
    if name == "builtin":
        return "builtin", []
    folder = MODELS / name
    more = []
    for option, part in (("--model-base", "base"), ("--vision-tower", "tower")):
        if part in given:
            more += [option, folder / given[part]]
    return folder / given.get("model", ""), more


def oracle(program, name, given, model, more, folder):
    """The same model in Bunny's own layout, by the oracle."""
    merged = folder / "merged"
    if name == "builtin":
        code, _, error = run(program, "model", "unpack", merged)
    else:
        code, _, error = run(program, "merge", "--model", model, *more, "--dtype", "f32", "--out", merged)
    assert code == 0, error
    return bunny.open_merged(merged)


def questions(folder):
    rows = []
    for at in range(20):
        picture = PICTURES[at % len(PICTURES)]
        rows.append({"question_id": at, "image": str(picture.relative_to(ROOT)), "question": QUESTIONS[at % len(QUESTIONS)]})
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows, file


def own_answers(program, model, more, file, folder):
    out = folder / "answers.jsonl"
    arguments = ["ask", file, "--images", ROOT, "--out", out, "--model", model, *more, "--max-new-tokens", ANSWER]
    if "int4" in str(model):
        # Prompts are multiplied as integers otherwise.
        arguments += ["--activations", "f32"]
    code, _, error = run(program, *arguments, "--backend", "cpu", "--dtype", "f32")
    assert code == 0, error
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return {str(row["question_id"]): row.get("text", row.get("answer")) for row in rows if "question_id" in row}


def check(program, name, given, kind, folder):
    model, more = parts(name, given)
    written = folder / "llava"
    code, _, error = run(program, "export", "llava", model, *more, "--dtype", "f32", "--out", written)
    assert code == 0, f"{name}: {error}"
    opened, report = LlavaForConditionalGeneration.from_pretrained(
        written, dtype=torch.float32, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), (name, report)
    assert opened.config.text_config.model_type == kind, name
    opened.eval()
    processor = AutoProcessor.from_pretrained(written, **PILLOW)
    # What its tokenizer puts before every text.
    first = processor.tokenizer("")["input_ids"]
    beginning = processor.tokenizer.decode(first)
    rows, file = questions(folder)
    ours = own_answers(program, model, more, file, folder)
    # What integers stand for is in no layout that the oracle reads.
    other = None if name.endswith("int4") else oracle(program, name, given, model, more, folder)
    worst, same, words = 0.0, 0, set()
    with torch.inference_mode():
        for row in rows:
            picture = Image.open(ROOT / row["image"]).convert("RGB")
            content = [{"type": "image", "image": picture}, {"type": "text", "text": row["question"]}]
            turns, how = [{"role": "user", "content": content}], {"add_generation_prompt": True}
            prompt = processor.apply_chat_template(turns, **how)
            assert prompt == beginning + bunny.prompt_of([("<image>\n" + row["question"], None)]), (name, prompt)
            inputs = processor.apply_chat_template(turns, **how, tokenize=True, return_dict=True, return_tensors="pt")
            assert not first or inputs["input_ids"][0].tolist().count(first[0]) == 1, name
            features = opened.get_image_features(inputs["pixel_values"])
            features = torch.cat(list(getattr(features, "pooler_output", features)))
            if other is not None:
                pixels = bunny.pixels_of(picture, other.tower)
                assert torch.equal(pixels, inputs["pixel_values"]) or (pixels - inputs["pixel_values"]).abs().max() < 1e-6, name
                scale = other.config.get("scale_emb", 1)
                expected = other.encode(pixels)[1][0] * scale
                worst = max(worst, ((features - expected).abs().max() / expected.abs().max()).item())
            ids = opened.generate(**inputs, max_new_tokens=ANSWER)
            answer = processor.decode(ids[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
            own = ours[str(row["question_id"])].strip()
            words.add(answer)
            same += answer == own
            if answer != own:
                print(f"   {row['question_id']}: {own!r} here, {answer!r} there")
    print(f"{name:22} {kind:9} {same} of {len(rows)} answers equal ({len(words)} different ones), features {worst:.1e}")
    return same == len(rows) and worst < 1e-4


def main():
    program = Path(sys.argv[1]).resolve()
    logging.set_verbosity_error()
    torch.set_num_threads(2)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, f32 on the processor")
    good = True
    for name, given, kind in CASES:
        with tempfile.TemporaryDirectory() as folder:
            good &= check(program, name, given, kind, Path(folder))
    for name in REFUSED:
        with tempfile.TemporaryDirectory() as folder:
            code, _, error = run(program, "export", "llava", MODELS / name, "--out", Path(folder) / "llava")
            good &= code == 1 and error.startswith("error: this model cannot be written as a LLaVA of transformers")
            print(f"{name:22} refused: {error.strip()}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
