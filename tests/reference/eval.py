"""Writes bunny-eval/tests/fixtures: small benchmarks of our own in the published layouts, answers,
and what the scripts of three harnesses make of them.

    python tests/reference/eval.py --bunny DIR --lmms-eval DIR --vlmevalkit DIR

The three are checkouts of BAAI-DCAI/Bunny (08273ac), EvolvingLMMs-Lab/lmms-eval (75571cf) and
open-compass/VLMEvalKit (e8e78f0); the scorers need nothing but the files under `eval`,
`bunny/eval`, `bunny/conversation.py`, `lmms_eval/tasks` and `vlmeval`. Their code is run as it is:
the reference's scripts whole, with a model that gives the answers written here in the place of
the real one, so that prompts and rows of answers are the scripts' own, too; of the other two the
functions that judge. What they import and do not need for it is replaced by empty modules.

Needs numpy 2.4.6, pandas 2.2.3, openpyxl 3.1.5, pyarrow 26.0.1, scikit-learn 1.9.1, PyYAML 6.0.4
and tqdm. Questions, pictures and answers are made up here.
"""

import argparse
import ast
import base64
import contextlib
import io
import json
import os
import pathlib
import random
import re
import runpy
import shutil
import string
import struct
import sys
import tarfile
import tempfile
import types
import zlib
from collections import defaultdict

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "bunny-eval" / "tests" / "fixtures"
SINGLE = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."


# --- small files -----------------------------------------------------------------------------


def png(width, height, seed):
    """A picture of one colour."""
    colour = bytes((seed * 53 % 256, seed * 91 % 256, seed * 17 % 256))
    rows = (b"\0" + colour * width) * height
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def tarball(path, name, content):
    """A compressed tar whose bytes are the same every time."""
    import gzip

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    put(path, gzip.compress(buffer.getvalue(), mtime=0))


# --- the benchmarks ----------------------------------------------------------------------------

MME_IMAGES = {"artwork", "celebrity", "landmark", "posters", "scene"}
# (category, picture, [(question, right answer, answer)]); two pictures or one a category.
MME = [
    ("code_reasoning", "0020.png", [("Does the card print 12?", "Yes", "Yes"), ("Does the card print 21?", "No", "no")]),
    ("artwork", "10212.jpg", [("Is the canvas called 'field'?", "Yes", "yes."), ("Is the canvas called 'sea'?", "No", "Noon")]),
    ("artwork", "10390.jpg", [("Does it hang in a hall?", "Yes", "It does"), ("Does it hang in a shed?", "No", "NoYes")]),
    ("celebrity", "tt1_shot.1.jpg", [("Is this Ada?", "Yes", "Eyes"), ("Is this Bo?", "No", "Unknown")]),
    ("numerical_calculation", "0003.png", [("Is the sum 7?", "Yes", "yesno"), ("Is the sum 8?", "No", "\"No\"")]),
    ("text_translation", "0005.png", [("Is it 'open door'?", "Yes", "YES"), ("Is it 'shut door'?", "No", "A: yes")]),
    ("count", "000101.jpg", [("Are there two discs?", "Yes", "Yes, two."), ("Are there five discs?", "No", "y")]),
    ("count", "000102.jpg", [("Is there one square?", "Yes", ""), ("Are there nine squares?", "No", "n")]),
    ("color", "000201.jpg", [("Is it red?", "Yes", "Yes\nIt is.\nno"), ("Is it green?", "No", "not")]),
    ("commonsense_reasoning", "0007.png", [("Should one stop?", "Yes", " yes"), ("Should one go?", "No", "None")]),
    ("position", "000301.jpg", [("Is it on the left?", "Yes", "The answer is yes"), ("Is it on the right?", "No", "now I see")]),
    ("OCR", "0002.jpg", [("Is the word 'KIOSK'?", "Yes", "\u0130yes"), ("Is the word 'KISOK'?", "No", "a no")]),
    ("landmark", "0acc.jpg", [("Is this the tower?", "Yes", "Yes"), ("Is this the bridge?", "No", "Yes")]),
    ("scene", "P1.jpg", [("Is it a beach?", "Yes", "YES."), ("Is it a mill?", "No", "snow")]),
    ("scene", "P2.jpg", [("Is it a garden?", "Yes", "know"), ("Is it a tunnel?", "No", "nope")]),
    ("existence", "000401.jpg", [("Is there a disc?", "Yes", "yes"), ("Is there a kite?", "No", "no")]),
    ("existence", "000402.jpg", [("Is there a square?", "Yes", "Yes it is"), ("Is there a spoon?", "No", "No.")]),
    ("posters", "tt2.jpg", [("Is it by Cy?", "Yes", "nO"), ("Is it by Di?", "No", "Nay")]),
]
# Its files have two spaces before "Please", as some of the published ones.
MME_TWO_SPACES = {"0005.png"}


def write_mme(root):
    base = root / "mme"
    release = base / "MME_Benchmark_release_version"
    rows = []
    for at, (category, picture, asked) in enumerate(MME):
        own = category in MME_IMAGES
        name = f"{category}/images/{picture}" if own else f"{category}/{picture}"
        put(release / name, png(3 + at % 3, 2, at))
        questions = release / category / ("questions_answers_YN" if own else "")
        gap = "  " if picture in MME_TWO_SPACES else " "
        text = "".join(f"{question}{gap}Please answer yes or no.\t{gold}\n" for question, gold, _ in asked)
        put(questions / (picture.split(".")[0] + ".txt"), text)
        for question, _, _ in asked:
            rows.append({"question_id": name, "image": name, "text": f"{question}\n{SINGLE}", "category": category})
    put(base / "bunny_mme.jsonl", lines(rows))
    return rows, [answer for _, _, asked in MME for _, _, answer in asked]


POPE_WORDS = ["disc", "lamp", "square", "kite", "spoon", "mill"]
# By category: (picture, word, label, answer).
POPE = {
    "adversarial": [
        (1, "disc", "yes", "Yes"), (1, "lamp", "no", "No"), (1, "square", "yes", "yes"), (1, "kite", "no", "NO"),
        (2, "disc", "yes", "There is no disc"), (2, "spoon", "no", "not there"), (2, "mill", "yes", "Yes. No"), (2, "lamp", "no", "none"),
    ],
    "random": [
        (1, "disc", "yes", "yes."), (1, "spoon", "no", "no\nthere is none"), (1, "mill", "no", "No, there is none."),
        (2, "square", "yes", ""), (2, "kite", "no", "Not"), (2, "mill", "yes", "n,o"), (2, "disc", "yes", "yes no"),
    ],
    "popular": [
        (1, "disc", "yes", "A frame. no"), (1, "lamp", "no", "no"), (1, "mill", "yes", "cannot"), (1, "kite", "no", "No!"),
        (2, "square", "yes", "Yes, it is"), (2, "spoon", "no", "nope"), (2, "lamp", "yes", "\tno"), (2, "kite", "no", "it is not"),
    ],
}
POPE_FIRST = {"adversarial": 1, "random": 10000001, "popular": 20000001}


def write_pope(root):
    base = root / "pope"
    rows, answers = [], []
    for category, asked in POPE.items():
        labels = []
        for at, (picture, word, label, answer) in enumerate(asked):
            image = f"COCO_val2014_00000000110{picture}.jpg"
            put(base / "val2014" / image, png(4, 3, picture))
            text = f"Is there a {word} in the image?"
            # A typo of the published label files.
            told = text.replace("image", "imange") if category == "popular" and at == 3 else text
            labels.append({"question_id": at + 1, "image": image, "text": told, "label": label})
            rows.append({"question_id": POPE_FIRST[category] + at, "image": image, "text": f"{text}\n{SINGLE}", "category": category})
            answers.append(answer)
        put(base / "coco" / f"coco_pope_{category}.json", lines(labels))
    put(base / "bunny_pope_test.jsonl", lines(rows))
    return rows, answers


SUBJECTS = (
    "Accounting Agriculture Architecture_and_Engineering Art Art_Theory Basic_Medical_Science Biology "
    "Chemistry Clinical_Medicine Computer_Science Design Diagnostics_and_Laboratory_Medicine Economics "
    "Electronics Energy_and_Power Finance Geography History Literature Manage Marketing Materials Math "
    "Mechanical_Engineering Music Pharmacy Physics Psychology Public_Health Sociology"
).split()
# (subject, options literal or None for an open question, right answer, answer).
MMMU = [
    ("Accounting", "['$1', '$2', '$3', '$4']", "B", "B"),
    ("Accounting", "['$1', '$2', '$3', '$4']", "C", " C."),
    ("Accounting", "['$1', '$2', '$3', '$4']", "A", "B.\n"),
    ("Agriculture", "['<image 1>', '<image 2>', '<image 3>']", "A", "(A)"),
    ("Agriculture", "['oak', 'elm', 'ash']", "B", "A,."),
    ("Architecture_and_Engineering", None, "1.06", "The load is 1.06 kN."),
    ("Art", '["it\'s red", \'blue "sky"\']', "A", "A or B"),
    ("Art_Theory", r"['line\\curve', 'a\tb', 'C major']", "C", "C major"),
    ("Basic_Medical_Science", "['one', 'two', 'three', 'four', 'five']", "E", "(E), not (A)"),
    ("Biology", None, "1/64", "It is 11/64"),
    ("Chemistry", None, "['$MgS$', 'MgS']", "mgs"),
    ("Chemistry", None, "4", "four"),
    ("Clinical_Medicine", "['a bay', 'a hill']", "B", "A bay"),
    ("Computer_Science", None, "60", "x = 60.004"),
    ("Computer_Science", "['1789', '1803', '1815']", "B", "c) 1803"),
    ("Design", "['warm', 'cold']", "A", "b"),
    ("Diagnostics_and_Laboratory_Medicine", "['iron', 'zinc']", "A", " (B"),
    ("Economics", "['up', 'down', 'flat', 'none']", "C", "?!C!?"),
    ("Electronics", None, "8.4", "v = 2 * 4.2 = 8.4"),
    ("Electronics", None, "-120", "about -120.00 mA"),
    ("Energy_and_Power", None, "1250", "The result $1,250.50"),
    ("Finance", "['5%', '6%', '7%', '8%']", "D", "I would say that it is (D)"),
    ("Geography", "['delta', 'fjord', 'mesa']", "B", "I am sure that this is a fjord by its walls"),
    ("History", "['1066', '1492']", "A", "1066"),
    ("Literature", "['ode', 'epic', 'elegy']", "B", "We see an epic, no ode, or perhaps an epic again"),
    ("Manage", "['plan', 'do', 'check', 'act', 'rest', 'sleep', 'eat', 'go', 'stay']", "I", "I"),
    ("Marketing", "['price', 'place']", "A", "Answer: B"),
    ("Materials", "['steel', 'glass']", "B", ""),
    ("Math", None, "0.001", "so the value is about 0.004"),
    ("Math", None, "13", "12.0\nor maybe 13"),
    ("Math", None, "234", "1,234"),
    ("Mechanical_Engineering", "['gear', 'belt', 'cam', 'rod']", "D", "\x1cD\x1f"),
    ("Music", "['C', 'D', 'E']", "C", "A B C"),
    ("Music", "['flute', 'horn']", "A", "a flute"),
    ("Pharmacy", "['5 mg', '10 mg']", "A", "5 mg"),
    ("Physics", None, "2.5e-3", "2.5e-3 T"),
    ("Physics", "['N', 'J', 'W', 'V']", "A", "'B'"),
    ("Psychology", "['id', 'ego', 'self', 'mind']", "A", "D."),
    ("Public_Health", "['air', 'water', 'soil']", "A", "Apart"),
    ("Sociology", None, "C", "vitamin c"),
]


def mmmu_rows(split):
    counts = defaultdict(int)
    rows, answers = [], []
    for at, (subject, options, gold, answer) in enumerate(MMMU):
        counts[subject] += 1
        rows.append(
            {
                "id": f"{split}_{subject}_{counts[subject]}",
                "question": f"What does <image 1> say of case {counts[subject]}?",
                "options": options or "[]",
                "explanation": "",
                "image_1": {"bytes": png(2, 2, at), "path": f"{split}_{subject}_{counts[subject]}_1.png"},
                "image_2": {"bytes": png(2, 3, at), "path": None} if at == 3 else None,
                "answer": gold if split == "validation" else "?",
                "question_type": "multiple-choice" if options else "open",
                "subject": subject,
            }
        )
        answers.append(answer)
    return rows, answers


def write_mmmu(root):
    base = root / "mmmu"
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    text = pa.string()
    schema = pa.schema(
        [("id", text), ("question", text), ("options", text), ("explanation", text), ("image_1", picture),
         ("image_2", picture), ("answer", text), ("question_type", text)]
    )
    gold = {}
    for split in ("validation", "test"):
        rows, _ = mmmu_rows(split)
        for subject in SUBJECTS:
            own = [{k: v for k, v in row.items() if k != "subject"} for row in rows if row["subject"] == subject]
            # One subject's test split comes in two files.
            parts = [own[:2], own[2:]] if (split, subject) == ("test", "Math") else [own]
            for at, part in enumerate(parts):
                path = base / "MMMU" / subject / f"{split}-{at:05}-of-{len(parts):05}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                table = pa.Table.from_pylist(part, schema)
                pq.write_table(table, path, compression="snappy", use_dictionary=False, write_statistics=False, store_schema=False)
        if split == "validation":
            for row in rows:
                literal = row["answer"]
                truth = ast.literal_eval(literal) if literal.startswith("[") else literal
                kind = "multiple-choice" if row["question_type"] == "multiple-choice" else "short-answer"
                gold[row["id"]] = {"question_type": kind, "ground_truth": truth}
    put(base / "answer_dict_val.json", json.dumps(gold, indent=4))


SEED_TYPES = [
    "Scene Understanding", "Instance Identity", "Instance Attributes", "Instance Location", "Instances Counting",
    "Spatial Relation", "Instance Interaction", "Visual Reasoning", "Text Understanding", "Action Recognition",
    "Action Prediction", "Procedure Understanding",
]
# (id, type, data, right answer, answer); ids of videos may be texts.
SEED = [
    ("101669", 1, "1454426_2591111986", "A", "A"), ("101670", 1, "1454426_2591111986", "B", "B."),
    ("101671", 2, "101", "C", "c"), ("101672", 2, "101", "D", "D"), ("101673", 3, "102", "A", "(A)"),
    ("101674", 3, "102", "B", "B"), ("101675", 4, "103", "C", "C"), ("101676", 5, "104", "D", "Answer: D"),
    ("101677", 5, "104", "A", "A"), ("101678", 6, "105", "B", "B"), ("101679", 7, "106", "C", "C"),
    ("101680", 8, "107", "D", "D"), ("101681", 9, "108", "A", "A. a cat"), ("101682", 9, "108", "B", "B"),
    ("v1738", 10, "v1", "C", "C"), ("v1739", 10, "v2", "D", "\nD"), ("108001", 11, "v3", "A", "A"),
    ("108002", 12, "v4", "B", "B"), ("108003", 12, "v5", "C", "left"),
]
SEED_OPTIONS = ["left", "right", "a red one", "none of them"]


def write_seed(root):
    base = root / "seed-bench"
    annotations, rows = [], []
    for at, (qid, kind, data, gold, _) in enumerate(SEED):
        question = f"Where is thing {at}?"
        annotation = {"answer": gold, **dict(zip(("choice_a", "choice_b", "choice_c", "choice_d"), SEED_OPTIONS))}
        annotation |= {"data_id": data, "data_type": "image" if kind < 10 else "video", "question": question, "question_id": qid, "question_type_id": kind}
        if kind > 10:
            annotation["segment"] = [0, 2]
        annotations.append(annotation)
        image = f"SEED-Bench-image/{data}" if kind < 10 else f"SEED-Bench-video-image/{kind}_{qid}.png"
        put(base / image, png(2, 4, at))
        options = "".join(f"{letter}. {option}\n" for letter, option in zip("ABCD", SEED_OPTIONS))
        rows.append({
            "question_id": int(qid) if kind < 10 or not qid.startswith("v") else qid, "image": image,
            "text": f"{question}\n{options}{LETTER}", "category": SEED_TYPES[kind - 1],
        })
    types = {name: at + 1 for at, name in enumerate(SEED_TYPES)}
    # The upload follows the annotations' own order.
    put(base / "SEED-Bench.json", json.dumps({"questions": annotations, "question_type": types}))
    order = list(reversed(range(len(rows))))
    put(base / "bunny-seed-bench.jsonl", lines([rows[at] for at in order]))
    return [rows[at] for at in order], [SEED[at][4] for at in order]


# (index, question, hint, options, right, category, ability, answers by rotation).
MMBENCH = [
    (241, "What is this?", "", ["a cat", "a dog", "a hen", "a cow"], 0, "object_localization", "finegrained_perception (instance-level)", ["A", "B.", "(C)", "The answer is D"]),
    (252, 'Which "sign"\nis it?', "It stands, at a road.", ["stop", "go", "None", "turn"], 1, "ocr", "finegrained_perception (instance-level)", ["B", "A"]),
    (263, "How many?", "nan", ["one", "two", "", ""], 1, "attribute_comparison", "finegrained_perception (cross-instance)", ["two", "I think that it is one or two"]),
    (274, "Which mood?", "none", ["glad", "sad", "calm", ""], 2, "image_emotion", "coarse_perception", ["It is A calm face of this man", "The correct answer is **B**", "C glad"]),
    (285, "Which next?", "", ["north wind", "south wind", "east wind", "west wind"], 3, "future_prediction", "logic_reasoning", ["D", "c", "C", "=B"]),
    (296, "Who leads?", "Look at the hats.", ["Ann", "Ben", "Cyd", "Dan"], 0, "social_relation", "relation_reasoning", ["Sorry, I can't help with images of people yet.", "D", "C", "Ben"]),
    (307, "Is it heavy?", "", ["yes", "no", "", ""], 0, "physical_property_reasoning", "attribute_reasoning", ["A", "B: no"]),
]


def mmbench_rows(split):
    rows, answers = [], []
    for index, question, hint, options, right, category, ability, said in MMBENCH:
        kept = [option for option in options if option]
        for turn in range(len(said)):
            rotated = kept[turn:] + kept[:turn]
            cells = rotated + [""] * (4 - len(rotated))
            letter = "ABCD"[rotated.index(kept[right])]
            row = {"index": index + turn * 10**6, "question": question, "hint": hint, **dict(zip("ABCD", cells))}
            if split == "dev":
                row["answer"] = letter
            image = base64.b64encode(png(2, 2, index)).decode()
            row |= {"category": category, "image": image, "source": "made up", "l2-category": ability, "comment": "", "split": split}
            rows.append(row)
            answers.append(said[turn])
    # All first rows, then the rotations, as in the published file.
    order = sorted(range(len(rows)), key=lambda at: rows[at]["index"])
    return [rows[at] for at in order], [answers[at] for at in order]


def write_mmbench(root):
    for split in ("dev", "test"):
        rows, _ = mmbench_rows(split)
        cell = lambda text: '"' + str(text).replace('"', '""') + '"' if re.search('["\n\t]', str(text)) else str(text)
        table = "\t".join(rows[0]) + "\n"
        table += "".join("\t".join(cell(value) for value in row.values()) + "\n" for row in rows)
        put(root / "mmbench" / f"MMBench_{split.upper()}_EN_legacy.tsv", table)
    # The newer table: no `comment`, and a rotation's picture is another row's.
    newer = "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tsource\tl2-category\tsplit\n"
    picture = base64.b64encode(png(2, 2, 1)).decode()
    newer += f"1\tWhat?\t\ta\tb\t\t\tA\tocr\t{picture}\tmade up\tcoarse_perception\tdev\n"
    newer += "1000001\tWhat?\t\tb\ta\t\t\tB\tocr\t1\tmade up\tcoarse_perception\tdev\n"
    put(root / "mmbench-newer" / "MMBench_DEV_EN.tsv", newer)


# (id, picture, question, answer).
VQA = [
    (262144005, 262144, "Which card?", "It's Visa."), (262144003, 262144, "Is there a hat?", "Yes"),
    (262144000, 262144, "Is the ball flying?", "No."), (42004, 42, "How many are there?", "two"),
    (42001, 42, "What is it?", "the U.S.A."), (42000, 42, "What number?", "3,000.50"),
    (73002, 73, "Which kind?", "wi-fi - on"), (73001, 73, "Which time?", "9:30 a.m.\nor so"),
    (73000, 73, "What does it say?", "\"what's\" up\t(now)"),
]
# Only in the whole test set.
VQA_MORE = [(9000, 9, "What is this?"), (262144999, 262144, "Why?")]


def write_vqav2(root):
    base = root / "vqav2"
    row = lambda qid, picture, question: {
        "question_id": qid, "image": f"COCO_test2015_{picture:012}.jpg", "text": f"{question}\n{SINGLE}", "category": "default",
    }
    rows = [row(*question[:3]) for question in VQA]
    for picture in {question[1] for question in VQA}:
        put(base / "test2015" / f"COCO_test2015_{picture:012}.jpg", png(2, 2, picture))
    tarball(base / "bunny_vqav2_mscoco_test-dev2015.tar.gz", "bunny_vqav2_mscoco_test-dev2015.jsonl", lines(rows).encode())
    whole = [row(*VQA_MORE[0])] + list(reversed(rows)) + [row(*VQA_MORE[1])]
    put(base / "bunny_vqav2_mscoco_test2015.jsonl", lines(whole))
    return rows, [question[3] for question in VQA]


# (id, picture, question, type, ten answers, answer).
VQA_VAL = [
    (1000, 1, "Is it?", "yes/no", ["yes"] * 8 + ["no"] * 2, "Yes"),
    (1001, 1, "Is it not?", "yes/no", ["no"] * 9 + ["yes"], "yes"),
    (1002, 1, "How many?", "number", ["two"] * 2 + ["2"] + ["3"] * 7, "2"),
    (2000, 2, "Which one?", "other", ["the red one"] * 2 + ["red"] * 8, "A red one"),
    (2001, 2, "Whose?", "other", ["mom's"] * 5 + ["moms"] * 5, "mom's"),
    (2002, 2, "How much?", "number", ["1,000"] * 4 + ["1000"] * 6, "1,000"),
    (2003, 2, "What is it?", "other", ["t-shirt", "t shirt", "shirt"] + ["tee"] * 7, "T-shirt?"),
]


def write_vqav2_val(root):
    base = root / "vqav2-val"
    questions = [{"image_id": row[1], "question": row[2], "question_id": row[0]} for row in VQA_VAL]
    put(base / "v2_OpenEnded_mscoco_val2014_questions.json", json.dumps({"questions": questions}))
    annotations = [
        {
            "question_id": row[0], "image_id": row[1], "question_type": "", "answer_type": row[3], "multiple_choice_answer": row[4][0],
            "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": at + 1} for at, answer in enumerate(row[4])],
        }
        for row in VQA_VAL
    ]
    put(base / "v2_mscoco_val2014_annotations.json", json.dumps({"annotations": annotations}))


# (id, picture, question, right, structural, semantic, group, steps, answer).
GQA = [
    ("201307251", "n161313", "Is it overcast?", "no", "verify", "global", None, ["select: scene", "verify weather: overcast"], "No."),
    ("201640614", "n161313", "Who is wearing the dress?", "woman", "query", "rel", "person", ["select: dress (1)", "relate: person,wearing,s (2)", "query: name"], "the woman"),
    ("202225914", "n336443", "Does the utensil on the left look red?", "yes", "verify", "attr", None, ["select: utensil (3)", "verify color: red"], "yes!"),
    ("202225915", "n336443", "Which color is the fork?", "red", "query", "attr", "color", ["select: fork (4)", "query: color"], "Red..."),
    ("202225916", "n336443", "What is the wood thing?", "t-shirt", "query", "cat", "clothing", ["select: thing (5)", "query: name"], "T-shirt"),
    ("202225917", "n235859", "Is there a fence or a tower?", "yes", "logical", "obj", None, ["select: fence (6)", "exist: ?", "select: tower (-)", "exist: ?", "or: "], "yes"),
    ("202225918", "n235859", "Which is bigger, the cat or the dog?", "cat", "compare", "attr", "animal", ["select: cat (7)", "select: dog (8)", "choose bigger: "], "wood ."),
    ("202225919", "n235859", "Is the cat black or white?", "black", "choose", "attr", "color", ["select: cat (7)", "choose color: black|white"], "Black"),
    ("202225920", "n235859", "What color is the dog?", "red", "query", "attr", "color", ["select: dog (8)", "query: color"], "brown"),
    ("202225921", "n235859", "What animal is it?", "cat", "query", "obj", "animal", ["select: animal (7)", "query: name"], ".cat."),
]


def write_gqa(root):
    base = root / "gqa"
    rows, gold = [], {}
    for qid, picture, question, answer, structural, semantic, group, steps, _ in GQA:
        put(base / "images" / f"{picture}.jpg", png(3, 3, int(picture[1:])))
        rows.append({"question_id": qid, "image": f"{picture}.jpg", "text": f"{question}\n{SINGLE}", "category": "default"})
        parts = [step.split(": ", 1) for step in steps]
        gold[qid] = {
            "semantic": [{"operation": operation, "dependencies": [], "argument": argument} for operation, argument in parts],
            "entailed": [qid], "equivalent": [qid], "question": question, "imageId": picture, "isBalanced": qid != "202225920",
            "groups": {"global": group, "local": None}, "answer": answer, "semanticStr": "", "annotations": {},
            "types": {"detailed": "", "semantic": semantic, "structural": structural}, "fullAnswer": "",
        }
    put(base / "bunny_gqa_testdev_balanced.jsonl", lines(rows))
    tarball(base / "testdev_balanced_questions.tar.gz", "testdev_balanced_questions.json", json.dumps(gold).encode())
    return rows, [row[-1] for row in GQA]


# (id, has a picture, hint, question, choices, right, subject, answer).
SQA = [
    ("4", False, "", "Which figure of speech is it?", ["chiasmus", "apostrophe"], 1, "language science", "B"),
    ("5", True, "Look at the wind.", "Which question can be tested?", ["one", "two", "three"], 0, "natural science", "A."),
    ("11", True, "", "Which state is north?", ["Maine", "Ohio"], 0, "social science", "A. Maine"),
    ("16", True, "", "Which force is it?", ["push", "pull"], 1, "natural science", "The answer is B."),
    ("23", True, "", "Which force is larger?", ["this", "that"], 1, "natural science", "The answer is B"),
    ("24", True, "", "Who is below?", ["cat", "dog"], 1, "natural science", "The answer is Below"),
    ("25", False, "", "Which is a noun?", ["run", "rug", "red"], 1, "language science", "b"),
    ("27", True, "", "Which is an animal?", ["oak", "ox", "ore", "oat", "oil"], 4, "natural science", "E"),
    ("28", True, "", "Which has two?", ["no", "bi"], 1, "natural science", "(B)"),
    ("33", True, "", "Which is it?", ["a", "b"], 0, "natural science", "The answer is A. The answer is A."),
    ("35", True, "", "What is it?", ["a", "b"], 0, "natural science", "C"),
    ("38", True, "", "What is heavier?", ["iron", "wool"], 0, "natural science", "A.\nx"),
    ("40", True, "", "Which one?", ["yes", "no"], 0, "natural science", "FAILED"),
    ("41", False, "Read the text.", "Which word?", ["alpha", "beta"], 0, "language science", "I say: The answer is A, not B"),
    ("42", True, "", "Which tail?", ["long", "short"], 0, "natural science", "The answer is A\n"),
    ("43", True, "", "Which head?", ["long", "short"], 1, "natural science", "B. "),
]


def write_sqa(root):
    base = root / "scienceqa"
    rows, problems = [], {}
    for at, (qid, picture, hint, question, choices, right, subject, _) in enumerate(SQA):
        text = ("<image>\n" if picture else "") + (f"Context: {hint}\n" if hint else "") + question
        text += "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCDE", choices))
        row = {"id": qid, "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "ABCDE"[right]}]}
        if picture:
            row = {"id": qid, "image": f"{qid}/image.png", **{k: v for k, v in row.items() if k != "id"}}
            put(base / "test" / qid / "image.png", png(2, 5, at))
        rows.append(row)
        problems[qid] = {
            "question": question, "choices": choices, "answer": right, "hint": hint, "image": "image.png" if picture else None,
            "task": "closed choice", "grade": "grade3", "subject": subject, "topic": "", "category": "", "skill": "", "lecture": "", "solution": "", "split": "test",
        }
    problems["1"] = problems["4"] | {"split": "train"}
    put(base / "bunny_test_CQM-A.json", json.dumps(rows, indent=2))
    put(base / "problems.json", json.dumps(problems))
    put(base / "pid_splits.json", json.dumps({"train": ["1"], "val": [], "test": [row[0] for row in SQA]}))
    return rows, [row[-1] for row in SQA]


# --- running what others wrote -----------------------------------------------------------------


class Stub(types.ModuleType):
    """A module of which any name can be imported."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{self.__name__}.{name}")

    def __call__(self, *args, **kwargs):
        return self


@contextlib.contextmanager
def modules(**replaced):
    """Replaces modules while scripts run; dots in names are written as two underscores."""
    names = {name.replace("__", "."): module for name, module in replaced.items()}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def module(name, **members):
    made = Stub(name)
    made.__path__ = []
    for key, value in members.items():
        setattr(made, key, value)
    return made


def run(script, arguments, cwd, path=()):
    """Runs a script as a program; returns what it printed and how it ended."""
    out = io.StringIO()
    before, argv = os.getcwd(), sys.argv
    os.chdir(cwd)
    sys.argv = [str(script), *map(str, arguments)]
    sys.path[:0] = [str(entry) for entry in path]
    stops = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(str(script), run_name="__main__")
    except Exception as error:  # the scripts' own faults are what is looked for
        stops = type(error).__name__
    finally:
        os.chdir(before)
        sys.argv = argv
        del sys.path[: len(path)]
    return out.getvalue(), stops


def functions(path, given, names=None):
    """The functions, classes and constants of a file, without its imports."""
    tree = ast.parse(pathlib.Path(path).read_text())
    keep = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (names is None or node.name in names):
            keep.append(node)
        elif isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            if names is None or any(target.id in names for target in node.targets):
                keep.append(node)
    scope = dict(given)
    exec(compile(ast.Module(keep, []), str(path), "exec"), scope)
    return types.SimpleNamespace(**scope)


class Ids:
    """What stands for token ids: their shape, and that a prompt comes back as it was."""

    shape = (1, 1)

    def __getitem__(self, _):
        return self

    def __ne__(self, _):
        return self

    def sum(self):
        return self

    def item(self):
        return 0

    def to(self, **_):
        return self

    def cuda(self):
        return self

    def unsqueeze(self, _):
        return self


class Picture(dict):
    def convert(self, _):
        return self

    def to(self, *_, **__):
        return self

    def unsqueeze(self, _):
        return self


class Harness:
    """The reference's scripts with a model that gives prepared answers."""

    def __init__(self, bunny):
        self.bunny = bunny
        self.prompts = []
        self.answers = []
        self.at = 0
        self.settings = {}

    def modules(self):
        harness = self

        class Loader:
            def __init__(self, dataset, **_):
                self.dataset = dataset

            def __iter__(self):
                return (self.dataset[at] for at in range(len(self.dataset)))

        class Tokenizer:
            def batch_decode(self, *_, **__):
                harness.at += 1
                return [harness.answers[harness.at - 1]]

        class Model:
            config = None
            dtype = None

            def generate(self, *_, **given):
                harness.settings |= {name: given.get(name) for name in ("max_new_tokens", "do_sample", "num_beams")}
                return Ids()

        class Processor:
            def preprocess(self, *_, **__):
                return {"pixel_values": [Picture()]}

        def tokenize(prompt, *_, **__):
            harness.prompts.append(prompt)
            return Ids()

        def pads(*_):
            """Pictures are padded where a script hands them to this, and not where to the processor."""
            harness.settings["pads"] = True
            return [Picture()]

        conversation = types.ModuleType("bunny.conversation")
        # Its dataclasses look their module up.
        with modules(bunny__conversation=conversation):
            exec((self.bunny / "bunny" / "conversation.py").read_text(), conversation.__dict__)
        torch = module(
            "torch", inference_mode=contextlib.nullcontext, no_grad=contextlib.nullcontext,
            device=lambda name: name, manual_seed=lambda _: None,
            cuda=types.SimpleNamespace(is_available=lambda: False),
            backends=types.SimpleNamespace(cudnn=types.SimpleNamespace()),
        )
        return dict(
            torch=torch, torch__utils=module("torch.utils"),
            torch__utils__data=module("torch.utils.data", Dataset=object, DataLoader=Loader),
            shortuuid=module("shortuuid", uuid=lambda: "made-up"),
            PIL=module("PIL", Image=types.SimpleNamespace(open=lambda path: Picture())),
            bunny=module("bunny"), bunny__model=module("bunny.model"), bunny__util=module("bunny.util"),
            bunny__conversation=conversation,
            bunny__constants=module("bunny.constants", IMAGE_TOKEN_INDEX=-200, DEFAULT_IMAGE_TOKEN="<image>"),
            bunny__model__builder=module("bunny.model.builder", load_pretrained_model=lambda *_: (Tokenizer(), Model(), Processor(), 0)),
            bunny__util__utils=module("bunny.util.utils", disable_torch_init=lambda: None),
            bunny__util__mm_utils=module(
                "bunny.util.mm_utils", tokenizer_image_token=tokenize, process_images=pads,
                get_model_name_from_path=lambda path: "bunny-made-up", load_image_from_base64=lambda _: Picture(),
            ),
            datasets=module("datasets", load_dataset=load_dataset, concatenate_datasets=lambda parts: sum(parts, [])),
        )

    def ask(self, script, arguments, answers, cwd):
        self.prompts, self.answers, self.at, self.settings = [], answers, 0, {"pads": False}
        with modules(**self.modules()):
            printed, stops = run(self.bunny / "bunny" / "eval" / script, arguments, cwd)
        assert stops is None, (script, stops, printed)
        assert len(self.prompts) == len(answers), (script, len(self.prompts), len(answers))


def load_dataset(path, subject, split):
    rows = []
    for file in sorted(pathlib.Path(path, subject).glob(f"{split}-*.parquet")):
        rows += pq.read_table(file).to_pylist()
    for row in rows:
        row["image_1"] = row["image_1"] and Picture(row["image_1"])
    return rows


def clean(value):
    """Numbers as JSON has them."""
    if isinstance(value, dict):
        return {str(key): clean(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def expected(name, value):
    put(OUT / "expected" / f"{name}.json", json.dumps(clean(value), indent=1) + "\n")


# How each benchmark's questions are asked, by name.
SETTINGS = {}


def prompts_of(name, harness, rows, key="question_id"):
    prompts, SETTINGS[name] = harness.prompts, harness.settings
    put(OUT / "expected" / "prompts" / f"{name}.jsonl", lines([{"question_id": row[key], "prompt": prompt} for row, prompt in zip(rows, prompts)]))


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(name, rows):
    put(OUT / "answers" / f"{name}.jsonl", lines(rows))
    return rows


# --- the reference -----------------------------------------------------------------------------


class Reference:
    def __init__(self, bunny, work):
        self.bunny, self.work = bunny, work
        self.harness = Harness(bunny)

    def loader(self, name, question_file, rows, answers, mode="bunny"):
        out = self.work / "rows" / f"{name}.jsonl"
        arguments = ["--model-path", "made-up", "--image-folder", ".", "--question-file", question_file, "--answers-file", out, "--temperature", "0", "--conv-mode", mode]
        self.harness.ask("model_vqa_loader.py", arguments, answers, self.work)
        prompts_of(name, self.harness, rows)
        return read_rows(out)

    def mme(self, rows):
        base = self.work / "mme"
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(OUT / "mme", base)
        put(base / "answers" / "x.jsonl", lines(rows))
        _, stops = run(self.bunny / "eval/mme/convert_answer_to_mme.py", ["--experiment", "x"], base)
        if stops:
            return {"stops": stops}
        printed, stops = run(self.bunny / "eval/mme/calculation_mme.py", ["--results_dir", "answers_upload/x"], base)
        upload = {path.stem: path.read_text() for path in sorted((base / "answers_upload/x").glob("*.txt"))}
        totals = [float(number) for number in re.findall(r"total score: (\S+)", printed)]
        tasks = {name: float(score) for name, score in re.findall(r"(\w+)  score: (\S+)", printed)}
        told = {"tasks": tasks, "answer_lines": upload}
        told |= dict(zip(("perception", "cognition"), totals))
        return told | ({"stops": stops} if stops else {})

    def pope(self, rows):
        answers = self.work / "pope.jsonl"
        put(answers, lines(rows))
        base = OUT / "pope"
        printed, stops = run(
            self.bunny / "eval/pope/eval_pope.py",
            ["--annotation-dir", base / "coco", "--question-file", base / "bunny_pope_test.jsonl", "--result-file", answers], self.work,
        )
        if stops:
            return {"stops": stops}
        categories = {}
        for name, part in re.findall(r"Category: (\w+),(.*?)=====", printed, re.S):
            tp, fp, tn, fn = map(int, re.search(r"TN\tFN\t\n(\d+)\t(\d+)\t(\d+)\t(\d+)", part).groups())
            number = lambda label: float(re.search(label + r": (\S+)", part).group(1))
            categories[name] = {
                "tp": tp, "fp": fp, "tn": tn, "fn": fn, "accuracy": number("Accuracy"), "precision": number("Precision"),
                "recall": number("Recall"), "f1": number("F1 score"), "yes_ratio": number("Yes ratio"),
            }
        return {"f1": float(re.search(r"Average F1 score: (\S+)", printed).group(1)), "categories": categories}

    def mmmu(self, split, answers, name):
        rows, _ = mmmu_rows(split)
        out = self.work / f"mmmu_{split}.json"
        calls = []
        choice = random.choice

        def counted(sequence):
            calls.append(self.harness.at - 1)
            return choice(sequence)

        random.choice = counted
        try:
            self.harness.ask(
                "model_vqa_mmmu.py",
                ["--model-path", "made-up", "--data-path", OUT / "mmmu/MMMU", "--config-path", self.bunny / "eval/mmmu/config.yaml",
                 "--output-path", out, "--split", split, "--conv-mode", "bunny"],
                answers, self.work,
            )
        finally:
            random.choice = choice
        prompts_of(name, self.harness, rows, "id")
        told = {"submission": out.read_text(), "fallback": [rows[at]["id"] for at in calls]}
        if split == "validation":
            printed, stops = run(self.bunny / "eval/mmmu/eval_mmmu.py", ["--output-path", out, "--answer_path", OUT / "mmmu/answer_dict_val.json"], self.work)
            assert stops is None, stops
            told["results"] = ast.literal_eval(printed.strip().splitlines()[-1])
        return told

    def seed(self, rows, annotation=None):
        annotation = annotation or OUT / "seed-bench/SEED-Bench.json"
        answers, upload = self.work / "seed.jsonl", self.work / "seed_upload.jsonl"
        put(answers, lines(rows))
        upload.unlink(missing_ok=True)
        printed, stops = run(
            self.bunny / "eval/seed-bench/convert_seed_for_submission.py",
            ["--annotation-file", annotation, "--result-file", answers, "--result-upload-file", upload], self.work,
        )
        told = {"types": {name: float(score) for name, score in re.findall(r"^([\w ]+): ([\d.]+)%", printed, re.M) if not name.endswith(" accuracy")}}
        for name, label in (("total", "Total accuracy"), ("image", "image accuracy"), ("video", "video accuracy")):
            found = re.search(label + r": ([\d.]+)%", printed)
            if found:
                told[name] = float(found.group(1))
        if stops:
            told["stops"] = stops
        else:
            told["upload"] = upload.read_text()
        return told

    def mmbench(self, split, rows):
        name = f"MMBench_{split.upper()}_EN_legacy"
        put(self.work / "mmb" / "x.jsonl", lines(rows))
        printed, stops = run(
            self.bunny / "eval/mmbench/convert_mmbench_for_submission.py",
            ["--annotation-file", OUT / f"mmbench/{name}.tsv", "--result-dir", self.work / "mmb", "--upload-dir", self.work / "mmb", "--experiment", "x"], self.work,
        )
        if stops:
            return {"stops": stops}
        book = openpyxl.load_workbook(self.work / "mmb" / "x.xlsx")
        return {"sheets": book.sheetnames, "cells": [list(row) for row in book.active.iter_rows(values_only=True)]}

    def mmbench_rows(self, split, answers):
        rows, _ = mmbench_rows(split)
        out = self.work / "rows" / f"mmbench_{split}.jsonl"
        self.harness.ask(
            "model_vqa_mmbench.py",
            ["--model-path", "made-up", "--question-file", OUT / f"mmbench/MMBench_{split.upper()}_EN_legacy.tsv", "--answers-file", out,
             "--lang", "en", "--single-pred-prompt", "--temperature", "0", "--conv-mode", "minicpm"],
            answers, self.work,
        )
        prompts_of(f"mmbench-{split}", self.harness, rows, "index")
        return read_rows(out)

    def vqav2(self, text):
        base = self.work / "vqav2"
        split = "bunny_vqav2_mscoco_test-dev2015"
        put(base / "answers" / split / "x" / "merge.jsonl", text)
        shutil.copy(OUT / "vqav2/bunny_vqav2_mscoco_test2015.jsonl", base)
        with modules(bunny=module("bunny"), bunny__eval=module("bunny.eval"), bunny__eval__m4c_evaluator=self.m4c()):
            printed, stops = run(self.bunny / "eval/vqav2/convert_vqav2_for_submission.py", ["--dir", base, "--split", split, "--ckpt", "x"], self.work)
        assert stops is None, stops
        counts = dict(zip(("results", "split", "broken"), map(int, re.findall(r"\d+", printed))))
        return {"submission": (base / "answers_upload" / split / "x.json").read_text(), **counts}

    def m4c(self):
        made = types.ModuleType("bunny.eval.m4c_evaluator")
        exec((self.bunny / "bunny/eval/m4c_evaluator.py").read_text(), made.__dict__)
        return made

    def vqav2_val(self, rows):
        made = self.m4c()
        made.tqdm = lambda values: values
        gold = {row[0]: row for row in VQA_VAL}
        entries = [{"pred_answer": row["text"], "gt_answers": gold[row["question_id"]][4]} for row in rows]
        evaluate = made.TextVQAAccuracyEvaluator().eval_pred_list
        each = [evaluate([entry]) for entry in entries]
        kinds = defaultdict(list)
        for row, score in zip(rows, each):
            kinds[gold[row["question_id"]][3]].append(score)
        return {"accuracy": 100 * evaluate(entries), "types": {kind: 100 * float(np.mean(scores)) for kind, scores in kinds.items()}}

    def gqa(self, rows, without_groups=False):
        base = self.work / "gqa"
        base.mkdir(exist_ok=True)
        with tarfile.open(OUT / "gqa/testdev_balanced_questions.tar.gz") as tar:
            gold = json.load(tar.extractfile("testdev_balanced_questions.json"))
        if without_groups:
            for question in gold.values():
                question["groups"] = {"global": None, "local": None}
        put(base / "testdev_balanced_questions.json", json.dumps(gold))
        put(base / "merge.jsonl", lines(rows))
        run(self.bunny / "eval/gqa/convert_gqa_for_eval.py", ["--src", "merge.jsonl", "--dst", "testdev_balanced_predictions.json"], base)
        printed, stops = run(self.bunny / "eval/gqa/eval_gqa.py", ["--tier", "testdev_balanced"], base)
        if stops:
            return {"stops": stops}
        told = {name.lower(): float(score) for name, score in re.findall(r"^(Binary|Open|Accuracy|Distribution): ([\d.]+)", printed, re.M)}
        told["parts"] = {
            title.lower(): {name: [float(score), int(count)] for name, score, count in re.findall(r"^  (.+?): ([\d.]+)% \((\d+) questions\)", part, re.M)}
            for title, part in re.findall(r"^Accuracy / ([\w ]+):\n((?:  .*\n)+)", printed, re.M)
        }
        told["predictions"] = (base / "testdev_balanced_predictions.json").read_text()
        return told

    def scienceqa(self, rows):
        put(self.work / "sqa.jsonl", lines(rows))
        printed, stops = run(
            self.bunny / "eval/scienceqa/eval_science_qa.py",
            ["--base-dir", OUT / "scienceqa", "--result-file", self.work / "sqa.jsonl", "--output-file", self.work / "sqa_out.json", "--output-result", self.work / "sqa_result.json"], self.work,
        )
        if stops:
            return {"stops": stops}
        result = json.loads((self.work / "sqa_result.json").read_text())
        total, img = re.search(r"Accuracy: ([\d.]+)%, IMG-Accuracy: ([\d.]+)%", printed).groups()
        return {"total": float(total), "img": float(img), **{key: result[key] for key in ("correct", "count", "image_correct", "image_count")}, "results": result["results"]}

    def scienceqa_rows(self, rows, answers):
        out = self.work / "rows" / "scienceqa.jsonl"
        self.harness.ask(
            "model_vqa_science.py",
            ["--model-path", "made-up", "--image-folder", ".", "--question-file", OUT / "scienceqa/bunny_test_CQM-A.json", "--answers-file", out,
             "--single-pred-prompt", "--temperature", "0", "--conv-mode", "bunny"],
            answers, self.work,
        )
        prompts_of("scienceqa", self.harness, rows, "id")
        return read_rows(out)


# --- lmms-eval ---------------------------------------------------------------------------------


class LmmsEval:
    """Its tasks' own functions; answers reach them stripped, as `process_results` does."""

    def __init__(self, path):
        self.path = path
        tasks = path / "lmms_eval" / "tasks"
        log = types.SimpleNamespace(info=lambda *_: None)
        self.mme_task = functions(tasks / "mme/utils.py", {"os": os, "defaultdict": defaultdict, "eval_logger": log, "__file__": "mme"})
        self.pope_task = functions(tasks / "pope/utils.py", {})
        self.seed_task = functions(tasks / "seedbench/utils.py", {"json": json})
        self.sqa_task = functions(tasks / "scienceqa/utils.py", {})
        self.metrics = functions(path / "lmms_eval/api/metrics.py", {"np": np, "re": re, "string": string}, ["exact_match_hf_evaluate"])
        choices = functions(tasks / "_task_utils/mmmu_mcq_utils.py", {"random": random, "re": re, "np": np})
        names = [
            "mmmu_process_results", "extract_subset_name", "mmmu_aggregate_results", "calculate_ins_level_acc", "DOMAIN_CAT2SUB_CAT", "eval_multi_choice",
            "eval_open", "evaluate_mmmu", "parse_multi_choice_response", "extract_numbers", "check_is_number", "normalize_str", "parse_open_response", "get_multi_choice_info",
        ]
        self.mmmu_task = functions(
            tasks / "mmmu/utils.py",
            {"ast": ast, "re": re, "defaultdict": defaultdict, "shared_get_multi_choice_info": choices.get_multi_choice_info, "parse_mmmu_multi_choice_response": choices.parse_mmmu_multi_choice_response},
            names,
        )
        self.mcq = functions(tasks / "_task_utils/mcq_extract.py", {"re": re, "Optional": None, "List": list} | typing_names())
        import math
        import time

        evaluator = functions(
            tasks / "mmbench/mmbench_evals.py",
            {"math": math, "os": os, "rd": random, "string": string, "time": time, "pd": pd, "requests": None, "eval_logger": log},
        )
        self.mmbench_task = evaluator.MMBench_Evaluator()
        processor = functions(tasks / "_task_utils/vqa_eval_metric.py", {"re": re})
        import statistics

        self.vqa_task = functions(tasks / "vqav2/utils.py", {"json": json, "statistics": statistics, "EvalAIAnswerProcessor": processor.EvalAIAnswerProcessor})

    def mme(self, rows):
        gold = {(name, question): gold for category, picture, asked in MME for question, gold, _ in asked for name in [mme_name(category, picture)]}
        perception, cognition = [], []
        for row in rows:
            question = row["prompt"].split("\n")[0]
            doc = {"question_id": row["question_id"], "category": row["question_id"].split("/")[0], "answer": gold[row["question_id"], question]}
            for key, value in self.mme_task.mme_process_results(doc, [row["text"].strip()]).items():
                (perception if "perception" in key else cognition).append(value)
        return {"perception": self.mme_task.mme_aggregate_results(perception), "cognition": self.mme_task.mme_aggregate_results(cognition)}

    def pope(self, rows, questions):
        labels = [label for asked in POPE.values() for _, _, label, _ in asked]
        gold = {question["question_id"]: label for question, label in zip(questions, labels)}
        results = [self.pope_task.pope_process_results({"question_id": row["question_id"], "answer": gold[row["question_id"]]}, [row["text"].strip()])["pope_accuracy"] for row in rows]
        task = self.pope_task
        return {
            "f1": task.pope_aggregate_f1_score(results), "accuracy": task.pope_aggregate_accuracy(results), "precision": task.pope_aggregate_precision(results),
            "recall": task.pope_aggregate_recall(results), "yes_ratio": task.pope_aggregate_yes_ratio(results),
        }

    def seed(self, rows):
        gold = {(int(qid) if qid.isdigit() else qid): (qid, kind, answer) for qid, kind, _, answer, _ in SEED}
        parts = defaultdict(list)
        for row in rows:
            qid, kind, answer = gold[row["question_id"]]
            doc = {"answer": answer, "data_type": "image" if kind < 10 else "video", "question_id": qid}
            for key, value in self.seed_task.seed_process_result(doc, [row["text"].strip()]).items():
                parts[key].append(value)
        names = {"seed_all": "total", "seed_image": "image", "seed_video": "video"}
        return {names[key]: 100 * self.seed_task.seed_aggregation_result(values) for key, values in parts.items()}

    def gqa(self, rows):
        gold = {row[0]: row[3] for row in GQA if row[0] != "202225920"}
        scores = [
            self.metrics.exact_match_hf_evaluate([row["text"].strip()], [gold[row["question_id"]]], ignore_case=True, ignore_punctuation=True)["exact_match"]
            for row in rows if row["question_id"] in gold
        ]
        return {"accuracy": 100 * float(np.mean(scores))}

    def scienceqa(self, rows):
        gold = {row[0]: row for row in SQA}
        score = lambda row: self.sqa_task.sqa_process_results({"choices": gold[row["question_id"]][4], "answer": gold[row["question_id"]][5]}, [row["text"].strip()])["exact_match"]
        with_picture = [row for row in rows if gold[row["question_id"]][1]]
        return {"img": 100 * float(np.mean([score(row) for row in with_picture])), "total": 100 * float(np.mean([score(row) for row in rows]))}

    def mmmu(self, rows, answers):
        random.seed(0)
        results = [self.mmmu_task.mmmu_process_results(row, [answer.strip()])["mmmu_acc"] for row, answer in zip(rows, answers)]
        with contextlib.redirect_stdout(io.StringIO()):
            overall = self.mmmu_task.mmmu_aggregate_results(results)
        return {"overall": overall, "parsed": {result["id"]: result["parsed_pred"][0] for result in results if result["question_type"] == "multiple-choice"}}

    def mmbench(self, rows, answers):
        table = pd.read_table(OUT / "mmbench/MMBench_DEV_EN_legacy.tsv")
        table["prediction"] = [answer.strip() for answer in answers]
        sys.modules["lmms_eval.tasks._task_utils.mcq_extract"] = self.mcq
        for name in ("lmms_eval", "lmms_eval.tasks", "lmms_eval.tasks._task_utils"):
            sys.modules[name] = module(name)
        with contextlib.redirect_stdout(io.StringIO()):
            overall, categories, abilities = self.mmbench_task.eval_result(table.to_dict("records"), "static")
        return {"accuracy": 100 * overall, "categories": {key: 100 * value for key, value in (categories | abilities).items()}}

    def vqav2_val(self, rows):
        gold = {row[0]: row for row in VQA_VAL}
        scores = []
        for row in rows:
            answers = [{"answer": answer, "answer_id": at + 1} for at, answer in enumerate(gold[row["question_id"]][4])]
            doc = {"question_id": row["question_id"], "answers": answers}
            scores.append(self.vqa_task.vqav2_process_results_val(doc, [row["text"].strip()])["exact_match"])
        return {"accuracy": 100 * float(np.mean(scores))}


def typing_names():
    from typing import List, Optional

    return {"List": List, "Optional": Optional}


def mme_name(category, picture):
    return f"{category}/images/{picture}" if category in MME_IMAGES else f"{category}/{picture}"


# --- VLMEvalKit --------------------------------------------------------------------------------


class VlmEvalKit:
    def __init__(self, path):
        kit = path / "vlmeval"
        smp = functions(kit / "smp/misc.py", {"re": re}, ["process_punctuation", "istype"])
        self.punctuation = smp.process_punctuation
        log = types.SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)
        import copy
        import datetime
        from collections import Counter

        self.match = functions(kit / "utils/matching_util.py", {"os": os, "re": re, "string": string, "cp": copy, "logger": log, "Counter": Counter, "get_logger": lambda _: log})
        store = {}
        load = lambda key: store[str(key)]

        def dump(value, key):
            store[str(key)] = value.copy() if isinstance(value, pd.DataFrame) else value

        d2df = lambda values: {key: values[key] for key in values}
        self.store, self.dump = store, dump
        self.yorn = functions(kit / "dataset/utils/yorn.py", {"np": np, "pd": pd, "defaultdict": defaultdict, "load": load, "d2df": d2df, "process_punctuation": self.punctuation})
        self.choice = functions(
            kit / "dataset/utils/multiple_choice.py",
            {
                "osp": os.path, "rd": random, "re": re, "string": string, "defaultdict": defaultdict, "np": np, "pd": pd, "load": load, "dump": dump, "logger": log,
                "get_logger": lambda _: log, "istype": smp.istype, "can_infer": self.match.can_infer, "can_infer_lego": None, "cn_string": lambda _: False,
                "build_option_str": lambda choices: "", "get_pred_file_format": lambda: "xlsx", "timestr": lambda: "now",
                "track_progress_rich": self.all_of,
            },
        )
        self.vqa = functions(kit / "dataset/utils/vqa_eval.py", {"np": np, "Optional": typing_names()["Optional"], "istype": smp.istype, "listinstr": None, "process_punctuation": self.punctuation})

    def all_of(self, function, given, save=None, keys=None, **_):
        results = [function(**arguments) for arguments in given]
        self.dump(dict(zip(keys, results)), save)
        return results

    def mme(self, rows):
        gold = {(mme_name(category, picture), question): gold for category, picture, asked in MME for question, gold, _ in asked}
        table = []
        for row in rows:
            answer = gold[row["question_id"], row["prompt"].split("\n")[0]]
            extracted = self.yorn.YOrN_Extraction(row["text"])
            table.append({"category": row["question_id"].split("/")[0], "image_path": row["question_id"], "score": answer == extracted})
        self.dump(pd.DataFrame(table), "mme")
        rating = self.yorn.MME_rating("mme")
        return {"perception": rating["perception"], "cognition": rating["reasoning"]}

    def pope(self, rows, questions):
        labels = [label for asked in POPE.values() for _, _, label, _ in asked]
        gold = {question["question_id"]: (question["category"], label.capitalize()) for question, label in zip(questions, labels)}
        table = []
        for row in rows:
            category, answer = gold[row["question_id"]]
            extracted = self.yorn.YOrN_Extraction(row["text"])
            table.append({"category": category, "answer": answer, "extracted": extracted, "score": answer == extracted})
        self.dump(pd.DataFrame(table), "pope")
        rating = self.yorn.POPE_rating("pope")
        values = {split: {"f1": rating["Overall"][at] / 100, "accuracy": rating["acc"][at] / 100, "precision": rating["precision"][at] / 100, "recall": rating["recall"][at] / 100} for at, split in sorted(enumerate(rating["split"]), key=lambda pair: pair[1])}
        return values.pop("Overall") | {"categories": values}

    def hits(self, table, name):
        meta = table[["index", "answer", "question"]]
        self.store.clear()
        with contextlib.redirect_stdout(io.StringIO()):
            return self.choice.mcq_vanilla_eval(None, table.copy(), meta, 1, "result", name)

    def seed(self, rows):
        gold = {(int(qid) if qid.isdigit() else qid): (kind, answer) for qid, kind, _, answer, _ in SEED}
        table = []
        for row in rows:
            kind, answer = gold[row["question_id"]]
            if kind < 10:
                table.append({"index": row["question_id"], "question": "", **dict(zip("ABCD", SEED_OPTIONS)), "answer": answer, "prediction": row["text"]})
        return {"image": 100 * float(self.hits(pd.DataFrame(table), "SEEDBench_IMG")["hit"].mean())}

    def scienceqa(self, rows):
        gold = {row[0]: row for row in SQA}
        table = []
        for row in rows:
            own = gold[row["question_id"]]
            cells = own[4] + [None] * (5 - len(own[4]))
            table.append({"index": int(row["question_id"]), "question": "", **dict(zip("ABCDE", cells)), "answer": "ABCDE"[own[5]], "prediction": row["text"], "picture": own[1]})
        hits = self.hits(pd.DataFrame(table), "ScienceQA_TEST")
        return {"img": 100 * float(hits[hits["picture"]]["hit"].mean()), "total": 100 * float(hits["hit"].mean())}

    def mmmu(self, rows, answers):
        table = []
        for at, (row, answer) in enumerate(zip(rows, answers)):
            options = ast.literal_eval(row["options"])
            cells = options + [None] * (9 - len(options))
            table.append({"index": at, "question": row["question"], **dict(zip("ABCDEFGHI", cells)), "answer": row["answer"], "prediction": answer.strip()})
        hits = self.hits(pd.DataFrame(table), "MMMU_DEV_VAL")
        return {"overall": float(hits["hit"].mean()), "hits": {row["id"]: int(hit) for row, hit in zip(rows, hits["hit"])}}

    def gqa(self, rows):
        gold = {row[0]: row[3] for row in GQA if row[0] != "202225920"}
        results = [self.vqa.process_line({"answer": gold[row["question_id"]], "prediction": row["text"]}, method="accuracy") for row in rows if row["question_id"] in gold]
        return {"accuracy": 100 * float(np.mean([np.mean(result["match"]) for result in results]))}

    def mmbench(self, rows, answers):
        table = pd.read_table(OUT / "mmbench/MMBench_DEV_EN_legacy.tsv").drop(columns=["hint", "image", "source", "comment"])
        table["prediction"] = answers
        table = table.sort_values(by="index")
        meta = table[["index", "answer", "question"]]
        self.store.clear()
        with contextlib.redirect_stdout(io.StringIO()):
            told = self.choice.mcq_circular_eval(None, table.copy(), meta, 1, "result", "MMBench_DEV_EN")
            report = self.choice.report_acc(told)
            main = self.choice.mcq_vanilla_eval(None, table[table["index"] <= 1e6].copy(), meta, 1, "main", "MMBench_DEV_EN")
            every = self.choice.mcq_vanilla_eval(None, table.copy(), meta, 1, "every", "MMBench_DEV_EN")
        values = {name: 100 * float(report[name][0]) for name in report if name not in ("split", "Overall")}
        return {"accuracy": 100 * float(report["Overall"][0]), "main_rows": 100 * float(main["hit"].mean()), "all_rows": 100 * float(every["hit"].mean()), "categories": values}


# --- functions ---------------------------------------------------------------------------------


def made_up(rng, words, count, longest=9):
    """Texts of nasty pieces."""
    return ["".join(rng.choice(words) for _ in range(rng.randrange(longest))) for _ in range(count)]


def write_functions(bunny, reference, lmms, kit):
    rng = random.Random(7)
    m4c = reference.m4c().EvalAIAnswerProcessor()
    mmmu = functions(bunny / "eval/mmmu/eval_mmmu.py", {"re": re, "Dict": dict})
    mmmu_model = functions(bunny / "bunny/eval/model_vqa_mmmu.py", {"re": re, "random": random, "np": np}, ["parse_multi_choice_response"])
    mme = runpy_class(bunny / "eval/mme/calculation_mme.py", "calculate_metrics")

    vqa_words = [" ", " ", " ", "\n", "\t", ".", ".", ",", "?", "'s", "'", "the", "a", "two", "None", "dont", "youve", "yall'd've", "1", "2", "3.5", "U", "s", "É", "İ", "ß", "\x1c", "\x85",
                 "\u2003", "\u0661", "\ud800", "-", "/", "(", ")", "!", ";", "_", "@", "`", "\\", "%", "$", ":", "x", "Shouldnt've", "..", "\0"]
    vqa = made_up(rng, vqa_words, 500, 14) + list(reference.m4c().EvalAIAnswerProcessor.CONTRACTIONS)
    number_words = ["1", "12", "123", "0", "9", ",", ".", "-", "e", "E", "+", " ", "a", "_", "\u0661", "é", "\n", "345", "=", "x", "$", "%"]
    open_words = number_words + ["is ", "so ", "answer ", "could be ", "thus ", "result ", "final ", ". ", ".\n", ":", "?", "therefore ", "inf", "nan", "C", "mgs", " = ", "\x1f", "\x85", "İ", "K"]
    golds = ["1", "12", "0.12", "C", "mgs", ["a", "12"], "1/2", "inf", "nan", "1_2", "٣", "", "-0", "1e3", "x = 1", ["MgS", "$MgS$"], "2.675", "0.125", "1,234"]
    letters = ["A", "B", "C", "D", "(A)", "(B)", "(C)", " A ", " B ", "C.", "D.", ".", ",", "'", "!", " ", " ", "\n", "the ", "answer is ", "cat", "a dog", "Hen", "is ", "A:", "(D", "B)", "*", "**A**", "Correct answer is B", "Z", "\x1d", "*b*", "İ", "[C]", "{D}", "#"]
    options = ["Cat", "a dog", "hen", "A cow"]
    choices = dict(zip("ABCD", options))

    def open_right(gold, answer):
        return mmmu.eval_open(gold, mmmu.parse_open_response(answer))

    def picked(function, answer):
        random.seed(5)
        return function(answer, list("ABCD"), choices)

    table = {
        "vqa": [[text, m4c(text)] for text in vqa],
        "vqa_lmms": [],
        "punctuation_vlmevalkit": [[text, kit.punctuation(text)] for text in made_up(rng, vqa_words, 300, 14)],
        "numbers": [[text, mmmu.extract_numbers(text)] for text in made_up(rng, number_words, 500, 12)],
        "open": [[gold, text, open_right(gold, text)] for text in made_up(rng, open_words, 900, 8) for gold in [rng.choice(golds)]],
        # `None` where the choice is random.
        "choice": [], "choice_lmms": [],
        "letter_vlmevalkit": [], "letter_lmms": [],
        "mme": [[text, mme.parse_pred_ans((text.split("\n")[0] + "\n").lower())] for text in made_up(rng, ["y", "e", "s", "n", "o", "No", "Yes", " ", ".", "\n", "İ", "k", "w"], 300, 6)],
        "yes_no_vlmevalkit": [[text, kit.yorn.YOrN_Extraction(text)] for text in made_up(rng, ["yes", "No", "no", " ", ".", ",", "-", "/", "nope", "1", "YES", "\x1c"], 300, 6)],
        "float": [], "round": [], "literal": [], "strip": [], "split": [],
    }
    task = lmms.vqa_task.EvalAIAnswerProcessor()
    for text in made_up(rng, vqa_words, 300, 14):
        flat = text.replace("\n", " ").replace("\t", " ").strip()
        table["vqa_lmms"].append([text, task.process_digit_article(task.process_punctuation(flat))])
    for text in made_up(rng, letters, 600, 7):
        drawn = []
        chosen = random.choice
        random.choice = lambda sequence: drawn.append(1) or chosen(sequence)
        try:
            for name, function in (("choice", mmmu_model.parse_multi_choice_response), ("choice_lmms", lmms.mmmu_task.parse_multi_choice_response)):
                drawn.clear()
                result = picked(function, text)
                table[name].append([text, None if drawn else result])
        finally:
            random.choice = chosen
        table["letter_vlmevalkit"].append([text, kit.match.can_infer(text, dict(choices)) or None])
        prediction = text.strip()
        found = lmms.mmbench_task.can_infer(prediction, dict(choices)) or lmms.mcq.extract_mcq_answer(prediction, choices=list("ABCD"))
        table["letter_lmms"].append([text, found or None])
    for text in made_up(rng, ["1", "2", "0", ".", "e", "E", "+", "-", "_", " ", "inf", "nan", "Infinity", "\u0661", "\x1c", "x", "𝟙"], 600, 6):
        try:
            value = repr(float(text))
        except ValueError:
            value = None
        table["float"].append([text, value])
    for _ in range(300):
        value = rng.choice([rng.uniform(-3, 3), rng.randrange(-4000, 4000) / 8, rng.randrange(10**6) / 1000 + 0.005, rng.uniform(-1e17, 1e17)])
        table["round"].append([value, round(value, 2)])
    for text in made_up(rng, ["'", '"', "\\", "n", "x41", "a", ",", " ", "'b'", '"c"', "u00e9", "101", "[", "]", "'''", "\n", "r'\\d'"], 600, 9):
        literal = f"[{text}]"
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                value = ast.literal_eval(literal)
            value = value if isinstance(value, list) and all(isinstance(entry, str) for entry in value) else None
        except (SyntaxError, ValueError):
            value = None
        table["literal"].append([literal, value])
    stderr = functions(lmms.path / "lmms_eval/api/metrics.py", {"collections": __import__("collections"), "math": __import__("math"), "List": list, "Any": object}, ["clustered_stderr"])
    table["clustered_error"] = []
    while len(table["clustered_error"]) < 120:
        size = rng.randrange(2, 12)
        scores = [rng.choice([0.0, 1.0, 1 / 3, 0.9]) for _ in range(size)]
        clusters = [rng.randrange(5) for _ in range(size)]
        try:
            table["clustered_error"].append([scores, clusters, stderr.clustered_stderr(scores, clusters)])
        except ValueError:  # a variance that comes out below zero
            pass
    for text in made_up(rng, [" ", "\x1c", "\x1f", "\x85", "\xa0", "\u200b", "\u3000", "a", "\t", "\v"], 100):
        table["strip"].append([text, text.strip()])
        table["split"].append([text, text.split()])
    # One pair a line, so that a difference can be found.
    told = ",\n".join(f' {json.dumps(name)}: [\n' + ",\n".join(f"  {json.dumps(pair)}" for pair in pairs) + "\n ]" for name, pairs in table.items())
    put(OUT / "functions.json", "{\n" + told + "\n}\n")


def divided_by_nothing(reference, work):
    """What stops the scripts where a figure has nothing to divide by: POPE without a "yes", a category
    of MME with neither "yes" nor "no", ScienceQA and SEED-Bench without answers about a picture and a
    video, GQA without a group."""
    mme, pope, seed, sqa, gqa = (read_rows(OUT / f"answers/{name}.jsonl") for name in ("mme", "pope", "seed-bench", "scienceqa", "gqa"))
    told = {"pope": reference.pope([row | {"text": "No"} for row in pope])}
    mme = reference.mme([row | {"text": "It is so"} if row["question_id"].startswith("count/") else row for row in mme])
    told["mme"] = {"stops": mme["stops"]}
    annotation = json.loads((OUT / "seed-bench/SEED-Bench.json").read_text())
    annotation["questions"] = [one for one in annotation["questions"] if one["data_type"] == "image"]
    pictures = {one["question_id"]: one["answer"] for one in annotation["questions"]}
    put(work / "pictures.json", json.dumps(annotation))
    right = [row | {"text": pictures[str(row["question_id"])]} for row in seed if str(row["question_id"]) in pictures]
    told["seed-bench"] = reference.seed(right, work / "pictures.json")
    told["scienceqa"] = reference.scienceqa([row for row in sqa if "<image>" not in row["prompt"]])
    told["gqa"] = reference.gqa(gqa, without_groups=True)
    return told


def runpy_class(path, name):
    made = functions(path, {"os": os}, [name])
    return getattr(made, name)()


# --- all of it ---------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bunny", "lmms-eval", "vlmevalkit"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True, metavar="DIR")
    args = parser.parse_args()
    import warnings

    warnings.filterwarnings("ignore")
    shutil.rmtree(OUT, ignore_errors=True)
    work = pathlib.Path(tempfile.mkdtemp())
    reference = Reference(args.bunny.resolve(), work)
    lmms = LmmsEval(args.lmms_eval.resolve())
    kit = VlmEvalKit(args.vlmevalkit.resolve())
    write_functions(args.bunny.resolve(), reference, lmms, kit)

    questions, answers = write_mme(OUT)
    rows = write_rows("mme", reference.loader("mme", OUT / "mme/bunny_mme.jsonl", questions, answers))
    expected("mme", {"reference": reference.mme(rows), "lmms-eval": lmms.mme(rows), "vlmevalkit": kit.mme(rows)})
    # Two rows of a category break, which leaves a pair of two pictures; one says a carriage return,
    # one a zero; and two say whole lines of their own.
    tabs = {3: "no\there", 4: "Yes\tno", 16: "no\ryes", 20: "y\0es", 30: "yes\nf\tq\tYes\tyes", 32: "no\nf\tq\tno\tYes\n"}
    rows_tabs = write_rows("mme-tabs", [row | {"text": tabs.get(at, row["text"])} for at, row in enumerate(rows)])
    expected("mme-tabs", {"reference": reference.mme(rows_tabs)})
    # Both rows of a picture lack, then one row.
    expected("mme-missing", {"reference": reference.mme(write_rows("mme-missing", [row for row in rows if not row["question_id"].startswith("scene/images/P2")]))})
    expected("mme-odd", {"reference": reference.mme(write_rows("mme-odd", rows[:-1]))})

    questions, answers = write_pope(OUT)
    rows = write_rows("pope", reference.loader("pope", OUT / "pope/bunny_pope_test.jsonl", questions, answers, "phi3"))
    expected("pope", {"reference": reference.pope(rows), "lmms-eval": lmms.pope(rows, questions), "vlmevalkit": kit.pope(rows, questions)})
    expected("pope-missing", {"reference": reference.pope(write_rows("pope-missing", rows[:2] + rows[3:]))})

    write_mmmu(OUT)
    told, (questions, answers) = {}, mmmu_rows("validation")
    write_rows("mmmu-val", [{"question_id": row["id"], "text": answer} for row, answer in zip(questions, answers)])
    told["reference"] = reference.mmmu("validation", answers, "mmmu-val")
    told["lmms-eval"] = lmms.mmmu(questions, answers)
    told["vlmevalkit"] = kit.mmmu(questions, answers)
    expected("mmmu-val", told)
    questions, answers = mmmu_rows("test")
    nasty = ["tab\there", "half \ud800 of one", "zero\0", "é\u2028\"", "😀"]
    opens = [at for at, row in enumerate(questions) if row["question_type"] == "open"]
    for at, text in zip(opens, nasty):
        answers[at] = text
    write_rows("mmmu-test", [{"question_id": row["id"], "text": answer} for row, answer in zip(questions, answers)])
    expected("mmmu-test", {"reference": reference.mmmu("test", answers, "mmmu-test")})

    questions, answers = write_seed(OUT)
    rows = write_rows("seed-bench", reference.loader("seed-bench", OUT / "seed-bench/bunny-seed-bench.jsonl", questions, answers, "llama"))
    expected("seed-bench", {"reference": reference.seed(rows), "lmms-eval": lmms.seed(rows), "vlmevalkit": kit.seed(rows)})
    # A type without a right answer stops the script before it says anything.
    no_hit = write_rows("seed-bench-no-hit", [row | {"text": "x" if row["question_id"] == 101675 else row["text"]} for row in rows])
    expected("seed-bench-no-hit", {"reference": reference.seed(no_hit)})
    expected("seed-bench-missing", {"reference": reference.seed(write_rows("seed-bench-missing", rows[2:]))})

    write_mmbench(OUT)
    for split in ("dev", "test"):
        _, answers = mmbench_rows(split)
        if split == "test":
            answers[0] = "=A"
        rows = write_rows(f"mmbench-{split}", reference.mmbench_rows(split, answers))
        told = {"reference": reference.mmbench(split, rows)}
        if split == "dev":
            told |= {"lmms-eval": lmms.mmbench(rows, answers), "vlmevalkit": kit.mmbench(rows, answers)}
        expected(f"mmbench-{split}", told)

    questions, answers = write_vqav2(OUT)
    tarred = work / "test-dev.jsonl"
    put(tarred, lines(questions))
    rows = reference.loader("vqav2", tarred, questions, answers)
    # A broken line, an answer twice, one that lacks, and half a surrogate.
    text = lines(rows[:4]) + '{"question_id": 5, "text": "cut\n' + lines([rows[1] | {"text": "No"}] + rows[5:-1] + [rows[-1] | {"text": "half \ud800 A"}])
    put(OUT / "answers/vqav2.jsonl", text)
    expected("vqav2", {"reference": reference.vqav2(text)})
    put(OUT / "answers/vqav2-whole.jsonl", lines(rows))
    expected("vqav2-whole", {"reference": reference.vqav2(lines(rows))})
    write_vqav2_val(OUT)
    rows = write_rows("vqav2-val", [{"question_id": row[0], "text": row[5]} for row in VQA_VAL])
    expected("vqav2-val", {"reference": reference.vqav2_val(rows), "lmms-eval": lmms.vqav2_val(rows)})

    questions, answers = write_gqa(OUT)
    rows = write_rows("gqa", reference.loader("gqa", OUT / "gqa/bunny_gqa_testdev_balanced.jsonl", questions, answers))
    expected("gqa", {"reference": reference.gqa(rows), "lmms-eval": lmms.gqa(rows), "vlmevalkit": kit.gqa(rows)})

    questions, answers = write_sqa(OUT)
    rows = write_rows("scienceqa", reference.scienceqa_rows(questions, answers))
    expected("scienceqa", {"reference": reference.scienceqa(rows), "lmms-eval": lmms.scienceqa(rows), "vlmevalkit": kit.scienceqa(rows)})
    # Two with a picture and one without lack.
    part = write_rows("scienceqa-missing", [row for row in rows if row["question_id"] not in ("11", "25", "43")])
    expected("scienceqa-missing", {"reference": reference.scienceqa(part)})

    expected("nothing", divided_by_nothing(reference, work))
    expected("settings", SETTINGS)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
