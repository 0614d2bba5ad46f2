"""Holds what `bunny-cli` writes against mistral.rs. Run by hand: it needs its wheel.

    pip install mistralrs==0.9.5 gguf==0.19.0 Jinja2 numpy pillow safetensors
    python tests/reference/gguf_mistralrs.py --bunny target/release/bunny-cli

mistral.rs knows no Bunny: it is asked without pictures. 20 questions, greedy, to `bunny-cli serve` and to mistral.rs's
Runner over the language model of `export gguf`, and over the model's folder as if it were one of its language model,
for the built-in model and a random one of each family that mistral.rs knows (tests/fixtures/models).

Ends with 1 where fewer answers agree than `LEAST` says. Random models are no judges: their scores are nearly level.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from gguf_llama import CASES, SYSTEM, Server, make_qwen2, of_case, run

# It keeps what attention has seen in halves otherwise.
os.environ["MISTRALRS_CPU_KV_F32"] = "1"
import mistralrs

QUESTIONS = [f"What is {a} plus {b}?" for a, b in [(3, 4), (1, 8), (5, 5), (9, 6), (2, 7), (12, 4), (8, 8), (6, 3), (4, 9), (7, 7)]]
QUESTIONS += [
    "How many sides has a triangle?",
    "How many sides has a square?",
    "What color is the sky?",
    "What is in the picture?",
    "Which number is larger, 3 or 8?",
    "Name a color.",
    "Hello.",
    "Which shape is round?",
    "What color do you get from red and yellow?",
    "What can you do?",
]
# Of 20; what is not listed is told and not judged: mistral.rs rounds what goes into products with integers, and cuts
# the texts of Phi-3's file otherwise.
LEAST = {("builtin", "f16"): 20, ("llama-siglip", "f16"): 18}
LEAST |= {(case, "folder"): 20 for case in ("builtin", "phi-siglip", "qwen2", "phi3-siglip-lora", "llama-siglip")}
# What mistral.rs calls each.
FAMILIES = {
    "builtin": mistralrs.Architecture.Phi2,
    "phi-siglip": mistralrs.Architecture.Phi2,
    "qwen2": mistralrs.Architecture.Qwen2,
    "phi3-siglip-lora": mistralrs.Architecture.Phi3,
    "llama-siglip": mistralrs.Architecture.Llama,
}
TOKENS = 24


def answers_of_bunny(bunny, model):
    with Server([bunny, "serve", "--model", model, "--dtype", "f32"]) as server:
        return [server.answer([{"role": "user", "content": text}], TOKENS) for text in QUESTIONS]


def answers_of_mistralrs(which, has_template):
    runner = mistralrs.Runner(which=which)
    how = {"model": "default", "max_tokens": TOKENS, "temperature": 0.0}
    found = []
    for text in QUESTIONS:
        if has_template:
            request = mistralrs.ChatCompletionRequest(messages=[{"role": "user", "content": text}], **how)
            answer = runner.send_chat_completion_request(request).choices[0].message.content
        else:
            # A folder has no template; its tokenizer puts before a text what belongs there.
            request = mistralrs.CompletionRequest(prompt=f"{SYSTEM} USER: {text} ASSISTANT:", **how)
            answer = runner.send_completion_request(request).choices[0].text
        found.append(answer.strip())
    return found


def whole_folder(bunny, model, folder):
    """The model in one folder of weights."""
    if model == ["builtin"]:
        run(bunny, "model", "unpack", folder)
    elif len(model) == 1:
        return model[0]
    else:
        run(bunny, "merge", "--model", *model, "--out", folder)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bunny", metavar="BINARY", required=True)
    parser.add_argument("case", nargs="*", default=list(FAMILIES))
    args = parser.parse_args()
    work, fell_short = Path(tempfile.mkdtemp(prefix="gguf-mistralrs-")), False
    float32 = mistralrs.ModelDType.F32
    for case in args.case:
        if case == "qwen2":
            make_qwen2(work / "qwen2")
        model = [work / "qwen2"] if case == "qwen2" else of_case(case)
        asked = {}
        for weights in ["f16", "q8_0", "q4_0"]:
            out = work / f"{case}-{weights}"
            run(args.bunny, "export", "gguf", *model, "--out", out, "--weights", weights)
            file = next(path for path in out.glob("*.gguf") if not path.name.startswith("mmproj"))
            asked[weights] = (mistralrs.Which.GGUF(str(out), file.name, dtype=float32), file)
        folder = whole_folder(args.bunny, model, work / f"{case}-folder")
        asked["folder"] = (mistralrs.Which.Plain(str(folder), FAMILIES[case], dtype=float32), folder)
        for kind, (which, own) in asked.items():
            expected = answers_of_bunny(args.bunny, own)
            found = answers_of_mistralrs(which, kind != "folder")
            same = sum(a == b for a, b in zip(expected, found))
            print(f"{case:18} {kind:7} {same:2} of {len(QUESTIONS)}", flush=True)
            fell_short |= same < LEAST.get((case, kind), 0)
            for text, a, b in zip(QUESTIONS, expected, found):
                if a != b and case == "builtin":
                    print(f"    {text!r}: {a!r} here, {b!r} there")
    sys.exit(fell_short)


if __name__ == "__main__":
    main()
