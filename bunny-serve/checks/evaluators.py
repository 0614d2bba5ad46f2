"""lmms-eval's `openai` back-end and VLMEvalKit's `--base-url` against a server, by their own command lines.

    python -m venv v && v/bin/pip install lmms-eval==0.7.3 filelock==3.19.1
    v/bin/python bunny-serve/checks/evaluators.py lmms-eval --bunny target/release/bunny-cli
    python -m venv w && w/bin/pip install ms-vlmeval==0.0.20
    w/bin/python bunny-serve/checks/evaluators.py vlmevalkit --bunny target/release/bunny-cli

A small benchmark of one's own stands for theirs: 96 questions about a picture that the built-in model knows, 32 in
flight. Each evaluator has to have an answer to every question, the same wherever the same was asked; lmms-eval's, which
sends pictures without loss, the one that a plain client gets. No GPU, nothing is downloaded.
"""

import argparse
import base64
import csv
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import running
from PIL import Image

PICTURE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "pictures" / "shapes.jpg"
QUESTIONS = [
    "What is in the picture?",
    "What number is written in the picture?",
    "Where is the black diamond?",
    "How many shapes are there?",
]
COUNT = 96
TASK = """task: shapes
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.picture
doc_to_text: !function utils.question
doc_to_target: ""
generation_kwargs:
  max_new_tokens: 48
  temperature: 0
process_results: !function utils.score
metric_list:
  - metric: answered
    aggregation: mean
    higher_is_better: true
"""
UTILS = """import io

from PIL import Image


def picture(doc):
    return [Image.open(io.BytesIO(doc["image"])).convert("RGB")]


def question(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def score(doc, results):
    return {"answered": float(bool(results[0].strip()))}
"""


def alone(url, question):
    """The answer that a plain client gets."""
    picture = "data:image/jpeg;base64," + base64.b64encode(PICTURE.read_bytes()).decode()
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": question}]
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 48}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def run(command, folder, wanted, **variables):
    """The file that a command leaves behind."""
    done = subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True)
    found = sorted(path for pattern in wanted for path in (folder / "out").rglob(pattern) if path.is_file())
    if done.returncode or not found:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return found[0]


def lmms_eval(url, folder):
    """Question and answer of each row."""
    import pyarrow
    import pyarrow.parquet

    rows = [{"question": QUESTIONS[row % len(QUESTIONS)], "image": PICTURE.read_bytes()} for row in range(COUNT)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "shapes.parquet")
    (folder / "task").mkdir()
    (folder / "task/shapes.yaml").write_text(TASK.format(data=folder / "shapes.parquet"))
    (folder / "task/utils.py").write_text(UTILS)
    command = [sys.executable, "-m", "lmms_eval", "--model", "openai", "--tasks", "shapes"]
    command += ["--model_args", f"model=builtin,base_url={url}/v1,api_key=none,num_concurrent=32,timeout=600"]
    command += ["--include_path", str(folder / "task"), "--output_path", str(folder / "out"), "--log_samples"]
    samples = run(command, folder, ["*samples_shapes*.jsonl"], HF_HOME=str(folder / "hf"), HF_HUB_OFFLINE="1")
    for line in samples.read_text().splitlines():
        sample = json.loads(line)
        yield QUESTIONS[sample["doc_id"] % len(QUESTIONS)], sample["filtered_resps"]


def vlmevalkit(url, folder):
    """Question and answer of each row."""
    import pandas

    picture = io.BytesIO()
    Image.open(PICTURE).convert("RGB").save(picture, "PNG")
    with open(folder / "Shapes.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["index", "image", "question", "answer"])
        image = base64.b64encode(picture.getvalue()).decode()
        writer.writerows([row, image, QUESTIONS[row % len(QUESTIONS)], "-"] for row in range(COUNT))
    command = [sys.executable, "-m", "vlmeval.run", "--data", "Shapes", "--model", "builtin", "--base-url", url + "/v1"]
    command += ["--mode", "infer", "--api-nproc", "32", "--work-dir", str(folder / "out")]
    # 32,768 tokens unless told otherwise: more than any Bunny has positions for, which is fine.
    found = run(command, folder, ["*Shapes*.xlsx", "*Shapes*.tsv"], LMUData=str(folder), HF_HUB_OFFLINE="1")
    table = pandas.read_excel(found) if found.suffix == ".xlsx" else pandas.read_csv(found, sep="\t")
    yield from zip(table["question"], table["prediction"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluator", choices=["lmms-eval", "vlmevalkit"])
    parser.add_argument("--bunny", required=True)
    args = parser.parse_args()
    answers, is_lossless = {"lmms-eval": (lmms_eval, True), "vlmevalkit": (vlmevalkit, False)}[args.evaluator]
    server = running.server(args.bunny, "--dtype", "f32", "--slots", "16")
    with server as (url, _), tempfile.TemporaryDirectory() as folder:
        expected = {question: alone(url, question) if is_lossless else None for question in QUESTIONS}
        count = 0
        for question, answer in answers(url, pathlib.Path(folder)):
            assert isinstance(answer, str) and answer.strip() and "failed" not in answer.lower(), answer
            if expected[question] is None:
                expected[question] = answer
            assert answer.strip() == expected[question].strip(), (question, answer, expected[question])
            count += 1
        assert count == COUNT, count
    print(f"{args.evaluator} has {count} answers: {expected}")


if __name__ == "__main__":
    main()
