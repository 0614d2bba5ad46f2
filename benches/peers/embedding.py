#!/usr/bin/env python3
"""How many pictures with captions a second bunny embeds from tar files, and clip-retrieval.

    pip install -r tests/reference/requirements.txt
    pip install --no-deps clip-retrieval==2.45.0 webdataset==1.0.2 braceexpand fsspec
    python benches/peers/embedding.py --bunny target/release/bunny-cli --folder DIR

Tar files as img2dataset writes them (JPEG of noise and waves, 384 pixels wide; captions of 4 to 24 words) and a CLIP
ViT-B/32 of true shape with random weights, the vocabulary the one that open_clip brings: written to DIR once, 0.7 GB;
nothing is downloaded. bunny does all with `data embed`, its load included, in f32 and in bf16. clip-retrieval does it
with its own worker, whose reader, mapper and writer are as they are; handed in is the model, by the function that would
download it, and nobody records statistics. Its load is not counted, and of the sizes of batch asked for (--batches) the
best counts. Both write the same layout; beforehand their vectors in f32 are held against each other.
"""

import argparse
import importlib.util
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import time
import types

import common

ARCH = "ViT-B-32-quickgelu"
SHARD = 100
# Of an odd margin torchvision leaves another half out than transformers, and so do open_clip and bunny.
HEIGHTS = [height for height in range(224, 385) if int(224 * 384 / height) % 2 == 0]
WORDS = """a the of in on with and two three red blue small old wooden house dog cat street table beach mountain car
photo vintage portrait illustration kitchen free shipping best online new 2019 modern white black garden sunset city
people walking near large green tree bridge water boat sky children playing sign food plate""".split()


def write_tars(folder, pairs):
    """Shards of a hundred pairs; the members of a pair lie together."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    words = random.Random(1)
    for start in range(0, pairs, SHARD):
        with tarfile.open(folder / f"{start // SHARD:05}.tar", "w") as tar:
            for number in range(start, min(start + SHARD, pairs)):
                dice = np.random.default_rng(number)
                height = int(dice.choice(HEIGHTS))
                waves = np.sin(np.arange(384)[None, :, None] / (9 + number % 31) + np.arange(height)[:, None, None] / 31)
                values = (127 + 90 * waves + dice.normal(0, 20, (height, 384, 3))).clip(0, 255).astype(np.uint8)
                picture = io.BytesIO()
                Image.fromarray(values).save(picture, "JPEG", quality=90)
                caption = " ".join(words.choice(WORDS) for _ in range(words.randint(4, 24)))
                key = f"{start // SHARD:05}{number - start:04}"
                about = json.dumps({"key": key, "caption": caption, "width": 384, "height": height, "status": "success"})
                for ending, content in (("jpg", picture.getvalue()), ("txt", caption.encode()), ("json", about.encode())):
                    member = tarfile.TarInfo(f"{key}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def random_clip():
    """open_clip's model, preparation and tokenizer; uniform weights from one seed, norms as they are drawn."""
    import open_clip
    import torch

    torch.manual_seed(0)
    model, _, prepare = open_clip.create_model_and_transforms(ARCH)
    return model.eval(), prepare, open_clip.get_tokenizer(ARCH)


def as_transformers(weights):
    """open_clip's tensors under the names of transformers' CLIPModel."""
    names = {
        "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }
    whole = {
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "logit_scale": "logit_scale",
    }
    norms = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm",
             "ln_final": "text_model.final_layer_norm"}
    projections = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
    out = {}
    for name, value in weights.items():
        owner, _, leaf = name.rpartition(".")
        if name in whole:
            out[whole[name]] = value
        elif name in projections:
            out[projections[name]] = value.T
        elif owner in norms:
            out[f"{norms[owner]}.{leaf}"] = value
        elif "resblocks." in name:
            tower = "vision_model" if name.startswith("visual.") else "text_model"
            number, _, rest = name.split("resblocks.")[1].partition(".")
            layer = f"{tower}.encoder.layers.{number}"
            if "in_proj" in rest:
                for part, third in zip("qkv", value.chunk(3)):
                    out[f"{layer}.self_attn.{part}_proj.{leaf.removeprefix('in_proj_')}"] = third
            else:
                part = rest.rpartition(".")[0]
                out[f"{layer}.{names[part]}.{leaf}"] = value
    return {name: value.contiguous() for name, value in out.items()}


def write_model(folder):
    """The same model as transformers saves one."""
    from open_clip.tokenizer import SimpleTokenizer
    from safetensors.torch import save_file

    model, _, _ = random_clip()
    folder.mkdir(parents=True)
    save_file(as_transformers(model.state_dict()), folder / "model.safetensors")
    text = {"vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8,
            "num_hidden_layers": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
            "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407, "model_type": "clip_text_model"}
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12,
              "image_size": 224, "patch_size": 32, "num_channels": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
              "model_type": "clip_vision_model"}
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    processor = {"image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_center_crop": True, "resample": 3,
                 "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "size": {"shortest_edge": 224},
                 "crop_size": {"height": 224, "width": 224}, "image_mean": mean, "image_std": std}
    words = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    merges = sorted(words.bpe_ranks, key=words.bpe_ranks.get)
    for name, content in (
        ("config.json", {"model_type": "clip", "projection_dim": 512, "text_config": text, "vision_config": vision}),
        ("preprocessor_config.json", processor),
        ("tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}),
        ("vocab.json", {names.get(word, word): number for word, number in words.encoder.items()}),
    ):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def clip_retrieval():
    """Its worker, with `load_clip` that downloads nothing; what it imports and does not use here is nothing."""
    model, prepare, tokenizer = random_clip()
    for name in ("all_clip", "fire", "sentence_transformers", "wandb"):
        sys.modules[name] = types.ModuleType(name)
    # The package itself imports its server.
    package = types.ModuleType("clip_retrieval")
    package.__path__ = list(importlib.util.find_spec("clip_retrieval").submodule_search_locations)
    sys.modules["clip_retrieval"] = package
    sys.modules["all_clip"].load_clip = lambda **_: (model, prepare, tokenizer)
    sys.modules["sentence_transformers"].SentenceTransformer = None
    from clip_retrieval.clip_inference import worker

    class Nobody:
        def __init__(self, **_):
            pass

        def start(self):
            pass

        def end(self):
            pass

        def __call__(self, _):
            pass

    worker.LoggerWriter = Nobody
    return worker.worker


def worker(args):
    """One process of clip-retrieval: pairs a second in each size of batch."""
    import torch

    torch.set_num_threads(args.threads)
    work = clip_retrieval()
    tars = sorted(str(tar) for tar in (args.folder / "tars").glob("*.tar"))
    rates = {}
    for size in args.batches:
        out = args.folder / "clip-retrieval"
        shutil.rmtree(out, ignore_errors=True)
        begun = time.perf_counter()
        # Its progress goes where this process says its result.
        with open(os.devnull, "w") as nowhere:
            own, sys.stdout = sys.stdout, nowhere
            work(tasks=[0], input_dataset=tars, output_folder=str(out), output_partition_count=1,
                 input_format="webdataset", batch_size=size, num_prepro_workers=args.threads, enable_metadata=True)
            sys.stdout = own
        rates[size] = args.pairs / (time.perf_counter() - begun)
        print(f"  batches of {size}: {rates[size]:.2f} pairs a second", file=sys.stderr, flush=True)
    best = max(rates, key=rates.get)
    print(json.dumps({"pairs_per_second": rates[best], "batch": best, "rates": rates,
                      "peak_memory_bytes": common.peak_memory("cpu")}))


def embed(args, dtype):
    """Seconds in which bunny embeds the pairs, its load included."""
    out = args.folder / f"bunny-{dtype}"
    shutil.rmtree(out, ignore_errors=True)
    command = [args.bunny, "data", "embed", "--images", args.folder / "tars", "--model", args.folder / "model",
               "--out", out, "--dtype", dtype, *args.bunny_args.split()]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {"RAYON_NUM_THREADS": str(args.threads)})
    return time.perf_counter() - begun


def hold_against(ours, theirs):
    """The greatest difference of a number of any vector; rows are found by their keys."""
    import numpy as np
    import pandas as pd

    def rows(folder):
        files = sorted((folder / "img_emb").glob("*.npy"), key=lambda file: int(file.stem.rsplit("_", 1)[1]))
        numbers = [file.stem.rsplit("_", 1)[1] for file in files]
        keys = pd.concat([pd.read_parquet(folder / "metadata" / f"metadata_{number}.parquet") for number in numbers])["image_path"]
        order = np.argsort(keys.to_numpy(), kind="stable")
        vectors = [np.concatenate([np.load(folder / kind / f"{kind}_{number}.npy") for number in numbers])[order]
                   for kind in ("img_emb", "text_emb")]
        return list(keys.to_numpy()[order]), np.concatenate(vectors).astype(np.float32)

    (own, a), (other, b) = rows(ours), rows(theirs)
    if own != other:
        raise SystemExit(f"{len(own)} and {len(other)} rows, or other ones")
    return float(np.abs(a - b).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--pairs", type=int, default=2000, help="a hundred to a tar, and a tar at least to a thread")
    parser.add_argument("--dtype", choices=["f32", "bf16"], nargs="+", default=["f32", "bf16"], help="bunny's")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256], help="sizes of clip-retrieval's batches")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=1, help="processes of each peer, taken in turns")
    parser.add_argument("--bunny", metavar="BINARY", help="bunny-cli to run in turns with clip-retrieval")
    parser.add_argument("--bunny-args", default="", help="further arguments of `data embed`")
    parser.add_argument("--json", metavar="FILE", help="also write the JSON here")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(arch=ARCH)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    if (args.folder / "tars").exists() and len(list((args.folder / "tars").glob("*.tar"))) != -(-args.pairs // SHARD):
        raise SystemExit(f"{args.folder}/tars: other pairs than {args.pairs}; remove it, or name another folder")
    if not (args.folder / "tars").exists():
        write_tars(args.folder / "tars", args.pairs)
    if not (args.folder / "model").exists():
        write_model(args.folder / "model")
    runs = []
    for turn in range(args.rounds):
        own = [sys.executable, *sys.argv, "--worker"]
        runs.append({"peer": "clip-retrieval f32"} | common.launch(own, os.environ | {"OMP_NUM_THREADS": str(args.threads)}))
        for dtype in args.dtype if args.bunny else []:
            load = os.getloadavg()[0]
            seconds = embed(args, dtype)
            runs.append({"peer": f"bunny {dtype}", "pairs_per_second": args.pairs / seconds, "load_before": load,
                         "wall_seconds": seconds})
            if turn == 0 and dtype == "f32":
                # Numbers of 16 bits below a half, which sums in another order round otherwise: twice their spacing.
                apart = hold_against(args.folder / "bunny-f32", args.folder / "clip-retrieval")
                print(f"vectors in f32 differ by {apart:.1e} at most", file=sys.stderr)
                if apart > 2**-11:
                    raise SystemExit("these are not the same vectors")
    common.report(args, runs, [("pairs a second", "pairs_per_second", 1, "/s", True)])


if __name__ == "__main__":
    main()
