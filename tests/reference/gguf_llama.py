"""Holds `bunny-cli export gguf` against llama.cpp itself. Run by hand: it needs a build of llama.cpp.

    python tests/reference/gguf_llama.py --llama BUILD/bin --bunny target/release/bunny-cli [--work FOLDER] [CASE ...]

llama.cpp: what stands in llama-cpp-python's source package on PyPI (0.3.36), built with
`cmake -B BUILD -DLLAMA_CURL=OFF && cmake --build BUILD -t llama-server llama-mtmd-cli llama-quantize`.

For the built-in model and for one random model of each family (tests/fixtures/models), with either projector:

    answers     20 questions about 5 pictures (2 square, 3 of 3:2 and 2:3), greedy, to `bunny-cli serve` and to
                llama-server, in the same requests
    prompt      what llama-server and Jinja2 make of the template: second turns, a picture behind its words, two
                pictures, a system text
    features    of the fixture's pictures, against what transformers made of them (expected.safetensors)
    types       what `llama-quantize` would hold each tensor in, and, of Q8_0 and Q4_0, its bytes
    loss        of K blocks, beside that of llama-quantize

Ends with 1 where a prompt, a type or a byte differs, or fewer answers agree than `LEAST` says. Random models are no
judges of answers: their scores are nearly level, so that the last bits of a picture decide.
"""

import argparse
import base64
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import gguf
import jinja2
import numpy as np
from gguf.quants import dequantize
from PIL import Image
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "fixtures" / "models"
CASES = {
    "builtin": ["builtin"],
    "phi-siglip": [MODELS / "phi-siglip"],
    "stablelm-siglip-lora": None,
    "qwen2": None,
    "minicpm-siglip": [MODELS / "minicpm-siglip"],
    "phi3-siglip-lora": None,
    "llama-siglip": [MODELS / "llama-siglip"],
}
# Of features, of their root mean square: halves lose 2.6e-4, and a small tower of random weights more.
MOST_OFF = 5e-3
# Of 20; what is not listed is told and not judged.
LEAST = {(case, projector, "f16"): 18 for case in CASES for projector in ["janus_pro", "mlp"]}
LEAST |= {("builtin", "janus_pro", "f16"): 20, ("builtin", "janus_pro", "q8_0"): 18}
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
QUESTIONS = [
    "What is in the picture?",
    "How many shapes are there?\nAnswer the question using a single word or phrase.",
    "Is there a red circle?\nAnswer the question using a single word or phrase.",
    "Which number is written there?\nAnswer the question using a single word or phrase.",
]
faults = []


def wrong(text):
    print("  WRONG:", text)
    faults.append(text)


def of_case(name):
    if CASES[name]:
        return CASES[name]
    case = MODELS / name
    return [case / "bunny-lora", "--model-base", case / "base", "--vision-tower", case / "siglip-tower"]


def make_qwen2(folder):
    """Qwen2's fixture has another tower: its language model, with the tower of another fixture as wide."""
    language, tower = MODELS / "qwen2-clip", MODELS / "minicpm-siglip"
    pictures = ("model.vision_tower", "model.mm_projector")
    own, other = (load_file(path / "model.safetensors") for path in (language, tower))
    tensors = {name: tensor for name, tensor in own.items() if not name.startswith(pictures)}
    tensors |= {name: tensor for name, tensor in other.items() if name.startswith(pictures)}
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for path in language.glob("*token*.json"):
        shutil.copy(path, folder)
    config, of_tower = (json.loads((path / "config.json").read_text()) for path in (language, tower))
    config |= {field: of_tower[field] for field in ("mm_vision_tower", "mm_hidden_size")}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copytree(tower / of_tower["mm_vision_tower"], folder / of_tower["mm_vision_tower"])


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def pictures(bunny, work):
    """Five pictures of the world that the built-in model knows, as PNG."""
    world = work / "world"
    if not world.exists():
        run(bunny, "data", "synth", "--out", world, "--pairs", 1, "--conversations", 5, "--texts", 1, "--questions", 1, "--seed", 77)
    found = sorted(path for path in world.rglob("*") if path.suffix in (".jpg", ".png"))[:5]
    shown = [Image.open(path).convert("RGB") for path in found]
    for at, (width, height) in [(2, (3, 2)), (3, (2, 3)), (4, (3, 2))]:
        side = shown[at].width
        box = (0, 0, side, side * height // width) if width > height else (0, 0, side * width // height, side)
        shown[at] = shown[at].crop(box)
    return shown


def url_of(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class Server:
    def __init__(self, command, env=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        # Kept, since what it says matters when the server has ended.
        self.log = tempfile.NamedTemporaryFile("w", prefix="gguf-llama-", suffix=".log", delete=False)
        command = [str(word) for word in [*command, "--port", port]]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env={**os.environ, **(env or {})})
        for _ in range(600):
            if self.process.poll() is not None:
                sys.exit(f"{' '.join(command)}: ended, see {self.log.name}")
            try:
                urllib.request.urlopen(self.url + "/health", timeout=2).read()
                models = json.load(urllib.request.urlopen(self.url + "/v1/models", timeout=10))
                self.model = models["data"][0]["id"]
                return
            except OSError:
                time.sleep(0.2)
        sys.exit(f"{' '.join(command)}: does not answer")

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=300))

    def answer(self, messages, tokens):
        body = {"model": self.model, "messages": messages, "max_tokens": tokens, "temperature": 0}
        return self.post("/v1/chat/completions", body)["choices"][0]["message"]["content"].strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def turn(url, text, first=True):
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return {"role": "user", "content": parts if first else parts[::-1]}


def check_prompts(server, template, end, url):
    marker = "<__media_here__>"
    one, other = QUESTIONS[0], "And what else?"
    head, ask = f"{SYSTEM} USER: ", " ASSISTANT:"
    cases = {
        "a picture and words": ([turn(url, one)], f"{head}{marker}\n{one}{ask}"),
        "words and a picture": ([turn(url, one, first=False)], f"{head}{marker}\n{one}{ask}"),
        "a picture alone": ([{"role": "user", "content": turn(url, one)["content"][:1]}], f"{head}{marker}{ask}"),
        "words alone": ([{"role": "user", "content": one}], f"{head}{one}{ask}"),
        "two turns": (
            [turn(url, one), {"role": "assistant", "content": " Yes. "}, {"role": "user", "content": other}],
            f"{head}{marker}\n{one} ASSISTANT: Yes.{end}USER: {other}{ask}",
        ),
        "a system text": (
            [{"role": "system", "content": "Be brief."}, turn(url, one)],
            f"Be brief. USER: {marker}\n{one}{ask}",
        ),
        "two pictures": (
            [{"role": "user", "content": turn(url, one)["content"][:1] * 2 + turn(url, one)["content"][1:]}],
            f"{head}{marker}\n{marker}\n{one}{ask}",
        ),
    }
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    for name, (messages, expected) in cases.items():
        found = server.post("/apply-template", {"messages": messages})["prompt"]
        if found != expected:
            wrong(f"prompt of {name} in llama-server: {found!r} instead of {expected!r}")
        # transformers and vLLM hand parts over.
        found = environment.from_string(template).render(messages=messages, add_generation_prompt=True)
        if found != expected.replace(marker, "<image>"):
            wrong(f"prompt of {name} in Jinja2: {found!r}")
    return len(cases)


def features(llama, text, projector, picture, work):
    """What llama.cpp makes of a picture."""
    file = work / "features.bin"
    file.unlink(missing_ok=True)
    command = [llama / "llama-mtmd-cli", "-m", text, "--mmproj", projector, "--image", picture, "-p", "x", "-n", 1, "--temp", 0, "-t", 1, "--jinja", "--no-warmup"]
    subprocess.run([str(word) for word in command], capture_output=True, env={**os.environ, "MTMD_DEBUG_EMBEDDINGS": str(file)})
    if not file.exists():
        return None
    data = file.read_bytes()
    tokens, width = struct.unpack("<ii", data[:8])
    return np.frombuffer(data[8:], "<f4").reshape(-1, width)[:tokens]


def expected(case, name):
    """A tensor of the fixture, if it is there."""
    data = (MODELS / case / "expected.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if name not in header:
        return None
    start, end = header[name]["data_offsets"]
    return np.frombuffer(data[8 + length + start : 8 + length + end], "<f4").reshape(header[name]["shape"])


def prepared(case, name, work):
    """The fixture's picture as its tower reads it, so that nothing is padded or resized any more."""
    pixels = expected(case, f"{name}.pixels")
    if pixels is None:
        return None
    levels = np.rint((pixels[0].transpose(1, 2, 0) * 0.5 + 0.5) * 255).astype(np.uint8)
    path = work / f"{case}-{name}.png"
    Image.fromarray(levels).save(path)
    return path


def tensors(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def compare_types(llama, ours, f16, weights, work):
    theirs = work / f"llama-{weights}.gguf"
    theirs.unlink(missing_ok=True)
    run(llama / "llama-quantize", f16, theirs, weights.upper(), 1)
    one, other, source = tensors(ours), tensors(theirs), tensors(f16)
    equal, lost = 0, {}
    for name, tensor in other.items():
        mine = one[name]
        if mine.tensor_type != tensor.tensor_type:
            wrong(f"{weights}: {name} is {mine.tensor_type.name}, and {tensor.tensor_type.name} in llama.cpp")
            continue
        kind = tensor.tensor_type
        same = np.array_equal(mine.data, tensor.data)
        equal += same
        if kind.name in ("Q8_0", "Q4_0", "F32", "F16") and not same:
            wrong(f"{weights}: {name} has other {kind.name} blocks")
        if kind.name in ("Q4_K", "Q6_K", "Q5_0"):
            truth = np.asarray(source[name].data, dtype=np.float32)
            off = [((dequantize(np.asarray(part.data), kind) - truth) ** 2).sum() for part in (mine, tensor)]
            sums = lost.setdefault(kind.name, [0.0, 0.0, 0.0])
            for at, value in enumerate([*off, (truth**2).sum()]):
                sums[at] += float(value)
    said = ", ".join(f"{kind} loses {100 * (a / own) ** 0.5:.3f} %, llama-quantize's {100 * (b / own) ** 0.5:.3f}" for kind, (a, b, own) in lost.items())
    print(f"  {weights}: {len(other)} tensors of the same types, {equal} of the same bytes; {said}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", type=Path, required=True)
    parser.add_argument("--bunny", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("gguf-llama"))
    parser.add_argument("cases", nargs="*", default=list(CASES))
    options = parser.parse_args()
    bunny, llama, work = options.bunny.resolve(), options.llama.resolve(), options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    shown = pictures(bunny, work)
    for case in options.cases:
        print(case)
        urls = [url_of(picture) for picture in shown]
        tokens = 48 if case == "builtin" else 8
        if case == "qwen2":
            made = work / case / "made"
            if not made.exists():
                make_qwen2(made)
            model = [made]
        else:
            model = of_case(case)
        named = "builtin"
        asked = [(at, question) for at in range(5) for question in QUESTIONS]
        merged = work / case / "merged"
        if case != "builtin":
            named = merged
            if not merged.exists():
                run(bunny, "merge", "--model", *model, "--out", merged)
                config = json.loads((merged / "config.json").read_text())
                # llama.cpp lets Phi-3 see all, however far back.
                config.pop("sliding_window", None)
                (merged / "config.json").write_text(json.dumps(config))
            side = json.loads((merged / "siglip-tower" / "config.json").read_text())["image_size"]
            # So that nothing is padded or resized any more: these models would see another picture.
            urls = [url_of(picture.resize((side, side))) for picture in shown]
        with Server([bunny, "serve", "--model", named, "--dtype", "f32"]) as own:
            answers = [own.answer([turn(urls[at], question)], tokens) for at, question in asked]
        for projector in ["janus_pro", "mlp"]:
            for weights in ["f16", "q8_0", "q4_0", "q4_k_m"] if projector == "janus_pro" else ["f16"]:
                out = work / case / f"{projector}-{weights}"
                run(bunny, "export", "gguf", named, "--out", out, "--force", "--name", f"x-{case}", "--weights", weights, "--mmproj", projector)
                text, vision = out / f"x-{case}-{weights}.gguf", out / f"mmproj-x-{case}-f16.gguf"
                command = [llama / "llama-server", "-m", text, "--mmproj", vision, "-t", 1, "-np", 1, "-c", 2048, "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--host", "127.0.0.1"]
                with Server(command, {"LLAMA_MEDIA_MARKER": "<__media_here__>"}) as server:
                    found = [server.answer([turn(urls[at], question)], tokens) for at, question in asked]
                    if weights == "f16":
                        fields = gguf.GGUFReader(text).fields
                        template = fields["tokenizer.chat_template"].contents()
                        eos = fields["tokenizer.ggml.eos_token_id"].contents()
                        end = fields["tokenizer.ggml.tokens"].contents()[eos]
                        prompts = check_prompts(server, template, end, urls[0])
                same = [one == other for one, other in zip(answers, found)]
                square = sum(same[at] for at, (picture, _) in enumerate(asked) if picture < 2)
                said = f"  {projector} {weights}: {sum(same)} of 20 answers equal, of square pictures {square} of 8"
                print(said + (f"; {prompts} prompts looked at" if weights == "f16" else ""))
                if sum(same) < LEAST.get((case, projector, weights), 0):
                    wrong(f"{case} {projector} {weights}: {sum(same)} answers")
                    for (at, question), one, other in zip(asked, answers, found):
                        if one != other:
                            print(f"    picture {at}, {question.splitlines()[0]!r}: {one!r}, llama.cpp {other!r}")
                if weights == "f16" and (MODELS / case / "expected.safetensors").exists():
                    for name in ["wide", "tall"]:
                        picture, wanted = prepared(case, name, work), expected(case, f"{name}.projected")
                        if picture is None or wanted is None:
                            continue
                        seen = features(llama, text, vision, picture, work)
                        if seen is None or seen.shape != wanted.shape:
                            wrong(f"{case} {projector}: no features of {name}.png")
                            continue
                        off = np.sqrt(((seen - wanted) ** 2).mean() / (wanted**2).mean())
                        print(f"    features of {name}.png: off by {off:.5f} of their root mean square")
                        if off > MOST_OFF:
                            wrong(f"{case} {projector}: features of {name}.png are off by {off}")
                elif weights != "f16":
                    compare_types(llama, text, work / case / "janus_pro-f16" / f"x-{case}-f16.gguf", weights, work)
    print("all as it should be" if not faults else f"{len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
