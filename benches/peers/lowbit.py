#!/usr/bin/env python3
"""Decoding and prefill with weights of 16, 8 and 4 bits beside llama.cpp, in one run on one machine.

    python -m venv .venv && .venv/bin/pip install numpy gguf
    benches/peers/lowbit.py --bunny target/release/bunny-cli --folder DIR --rounds 3

Phi-2 (and SigLIP, for bunny) at true size, random weights; nothing is downloaded but packages. llama.cpp is built in
DIR from PyPI's source package llama-cpp-python, unless --llama names a folder that has its `llama-bench` and
`llama-quantize`. Peers take turns; every row of decoding has the 768 positions of a picture prompt in both caches, and
once none; llama.cpp is run with and without flash attention, and its better figure counts. Before and after each round
a sweep over 2 GiB tells what memory gives at that moment (GB/s, all threads); shares are of the better of the two.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import time

LLAMA = "llama-cpp-python==0.3.36"
HIDDEN, WIDE, VOCABULARY, HEADS, LAYERS = 2560, 10240, 51200, 32, 32
LAYER_WEIGHTS = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * WIDE)
HEAD_WEIGHTS = VOCABULARY * HIDDEN
HEAD_ROWS = 2 * LAYERS * HEADS  # of keys and values, a position
HEAD_SIZE = HIDDEN // HEADS

# What bunny is asked for, what stands beside it (and the type of its cache), the bits of a weight in the layers and in
# the head, and the bytes of a head's keys of one position.
PAIRS = {
    "int4": (["--dtype", "bf16", "--weights", "int4"], "Q4_0", (4.5, 8.5), 2 * HEAD_SIZE),
    "int4-kv8": (["--dtype", "bf16", "--weights", "int4", "--kv-cache-dtype", "int8"], "Q4_0/q8_0", (4.5, 8.5),
                 HEAD_SIZE + 4),
    "int8": (["--dtype", "bf16", "--weights", "int8"], "Q8_0", (8.5, 8.5), 2 * HEAD_SIZE),
    "bf16": (["--dtype", "bf16"], "F16", (16, 16), 2 * HEAD_SIZE),
    "f16": (["--dtype", "f16"], "F16", (16, 16), 2 * HEAD_SIZE),
}


def build_llama(folder):
    """llama.cpp from its packaged source; a few minutes on two cores."""
    bin_folder = folder / "llama-build" / "bin"
    if (bin_folder / "llama-bench").exists():
        return bin_folder
    subprocess.run([sys.executable, "-m", "pip", "download", "--no-binary", "llama-cpp-python", "--no-deps", "-d", folder, LLAMA], check=True)
    archive = next(folder.glob("llama_cpp_python-*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    source = next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))
    configure = ["cmake", "-S", source, "-B", folder / "llama-build", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
                 "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF"]
    subprocess.run(configure, check=True)
    subprocess.run(["cmake", "--build", folder / "llama-build", "-j", str(os.cpu_count()), "--target", "llama-bench",
                    "llama-quantize"], check=True)
    return bin_folder


def write_gguf(path):
    """Phi-2's shapes with random weights, f16, without a vocabulary."""
    import gguf
    import numpy as np

    random = np.random.default_rng(0)
    weights = lambda *shape: ((random.random(shape, dtype=np.float32) - 0.5) * 0.04).astype(np.float16)
    zeros = lambda count: np.zeros(count, np.float32)
    ones = lambda count: np.ones(count, np.float32)
    writer = gguf.GGUFWriter(str(path), "phi2")
    writer.add_name("random")
    writer.add_context_length(2048)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDE)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_dimension_count(32)
    writer.add_file_type(1)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    parts = {
        "token_embd.weight": weights(VOCABULARY, HIDDEN),
        "output_norm.weight": ones(HIDDEN),
        "output_norm.bias": zeros(HIDDEN),
        "output.weight": weights(VOCABULARY, HIDDEN),
        "output.bias": zeros(VOCABULARY),
    }
    for layer in range(LAYERS):
        parts |= {
            f"blk.{layer}.{name}": value
            for name, value in {
                "attn_norm.weight": ones(HIDDEN),
                "attn_norm.bias": zeros(HIDDEN),
                "attn_qkv.weight": weights(3 * HIDDEN, HIDDEN),
                "attn_qkv.bias": zeros(3 * HIDDEN),
                "attn_output.weight": weights(HIDDEN, HIDDEN),
                "attn_output.bias": zeros(HIDDEN),
                "ffn_up.weight": weights(WIDE, HIDDEN),
                "ffn_up.bias": zeros(WIDE),
                "ffn_down.weight": weights(HIDDEN, WIDE),
                "ffn_down.bias": zeros(HIDDEN),
            }.items()
        }
    for name, value in parts.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def files(folder, llama, kinds):
    """A GGUF of each kind, made once."""
    base = folder / "random-F16.gguf"
    if not base.exists():
        part = base.with_suffix(".part")
        write_gguf(part)
        part.rename(base)
    found = {"F16": base}
    for kind in kinds - {"F16"}:
        found[kind] = folder / f"random-{kind}.gguf"
        if not found[kind].exists():
            part = found[kind].with_suffix(".part")
            subprocess.run([llama / "llama-quantize", "--allow-requantize", base, part, kind], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            part.rename(found[kind])
    return found


def sweep(threads):
    """GB/s at which all threads together read 2 GiB."""
    import concurrent.futures

    import numpy as np

    parts = [np.ones(2**31 // 8 // threads, np.int64) for _ in range(threads)]
    best = 0.0
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            begun = time.perf_counter()
            list(pool.map(np.bitwise_or.reduce, parts))
            best = max(best, 2**31 / (time.perf_counter() - begun) / 1e9)
    return best


def peer(llama, file, args, depth, cache):
    """The better of llama.cpp's two attentions: tokens/s of decoding behind `depth` positions, and of prefill. Values in
    integers it keeps with flash attention alone."""
    best = {}
    caches = ["-ctk", cache, "-ctv", cache] if cache else []
    for flash in ("1",) if cache else ("0", "1"):
        command = [llama / "llama-bench", "-m", file, "-t", str(args.threads), "-n", str(args.tokens), "-d", str(depth),
                   "-p", "0" if depth else "768", "-r", "1", "-fa", flash, "-o", "json", *caches]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for row in json.loads(done.stdout):
            part = "decode" if row["n_gen"] else "prefill"
            best[part] = max(best.get(part, 0.0), row["avg_ts"])
    return best


def own(args, options, prompt):
    """bunny's `bench`, as JSON."""
    command = [args.bunny, "bench", "--arch", "bunny-phi-2-siglip", *options, "--prompt", str(prompt), "--decode",
               str(args.tokens), "--repeats", "1", "--warmup", "0", "--format", "json"]
    env = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bunny", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--llama", type=pathlib.Path, help="a folder with llama-bench and llama-quantize")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--more", nargs="*", default=["Q4_K_M"], help="further kinds of llama.cpp, beside int4")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    llama = args.llama or build_llama(args.folder)
    kinds = {PAIRS[name][1].split("/")[0] for name in args.weights} | set(args.more if "int4" in args.weights else [])
    ggufs = files(args.folder, llama, kinds)

    rounds = []
    for turn in range(args.rounds):
        row = {"load": os.getloadavg()[0], "sweep": [sweep(args.threads)], "bunny": {}, "peers": {}}
        for name in args.weights:
            options, kind, *_ = PAIRS[name]
            run = own(args, options, 768)
            row["bunny"][name] = run
            for other in [kind, *(args.more if name == "int4" else [])]:
                if other not in row["peers"]:
                    file, _, cache = other.partition("/")
                    row["peers"][other] = {"behind 768": peer(llama, ggufs[file], args, 768, cache)["decode"],
                                           **peer(llama, ggufs[file], args, 0, cache)}
            print(f"round {turn + 1}: {name} {run['decode_tokens_per_second']:.2f} tokens/s, {kind} "
                  f"{row['peers'][kind]['behind 768']:.2f}", file=sys.stderr, flush=True)
        row["sweep"].append(sweep(args.threads))
        rounds.append(row)
    for name in args.weights:
        _, kind, (bits, head_bits), head_row = PAIRS[name]
        streamed = (LAYER_WEIGHTS * bits + HEAD_WEIGHTS * head_bits) / 8 + HEAD_ROWS * head_row * 784
        for other in [kind, *(args.more if name == "int4" else [])]:
            def both(mine, theirs):
                ratios = sorted(mine(row["bunny"][name]) / row["peers"][other][theirs] for row in rounds)
                best = max(mine(row["bunny"][name]) for row in rounds), max(row["peers"][other][theirs] for row in rounds)
                return f"{best[0]:.2f} : {best[1]:.2f}, ratio {ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"

            print(f"{name} beside {other}: behind 768 positions "
                  + both(lambda run: run["decode_tokens_per_second"], "behind 768") + " tokens/s; prefill of 768 "
                  + both(lambda run: run["prefill_tokens_per_second"], "prefill"))
        shares = [row["bunny"][name]["decode_tokens_per_second"] * streamed / 1e9 / max(row["sweep"]) for row in rounds]
        print(f"{name}: {max(shares):.2f} of what a sweep of memory reads; peak memory "
              f"{max(row['bunny'][name]['peak_memory_bytes'] for row in rounds) / 2**30:.2f} GiB")
    print(json.dumps(rounds))


if __name__ == "__main__":
    main()
