"""How fast transformers runs a Bunny of true shape, beside bunny if asked.

    python benches/peers/inference.py --rounds 3 --bunny target/release/bunny-cli

Random weights, nothing is downloaded. A picture through tower and projector; a prompt of 768
positions, 729 of them the picture's; then one token at a time behind it, with a KV cache.
"""

import argparse
import json
import statistics
import time

import common
from common import BEFORE, PICTURE, PROMPT

PARTS = ("vision", "prefill", "decode")


def worker(args):
    """One process: builds the model and times the parts asked for."""
    import torch

    torch.set_num_threads(args.threads)
    dtype = common.dtype_of(args.worker)
    begun = time.perf_counter()
    language, tower, projector = common.build(args.arch, dtype, args.layers, args.device)
    out = {"dtype": args.worker, "threads": args.threads, "load_seconds": time.perf_counter() - begun}
    with torch.inference_mode():
        pixels = torch.randn(1, 3, 384, 384).to(args.device, dtype)
        encode = lambda: projector(tower(pixel_values=pixels).last_hidden_state)
        features = torch.randn(1, PICTURE, language.config.hidden_size).to(args.device, dtype)
        if "vision" in args.parts:
            seconds = common.timed("vision", encode, args)
            out |= {"vision_seconds": min(seconds), "vision_seconds_all": seconds}
        ids = torch.randint(0, 50000, (1, PROMPT - PICTURE), device=args.device)
        text = language.get_input_embeddings()(ids)
        embeds = torch.cat([text[:, :BEFORE], features, text[:, BEFORE:]], 1)
        prefill = lambda: language(inputs_embeds=embeds, use_cache=True, logits_to_keep=1)
        if "prefill" in args.parts:
            seconds = common.timed("prefill", prefill, args)
            out |= {"prefill_tokens_per_second": PROMPT / min(seconds), "prefill_seconds_all": seconds}
        if "decode" in args.parts:
            seconds = decode(language, prefill(), args)
            out |= {
                "decode_tokens_per_second": 1 / statistics.median(seconds),
                "decode_tokens_per_second_best": 1 / min(seconds),
            }
    print(json.dumps(out | {"peak_memory_bytes": common.peak_memory(args.device)}))


def decode(language, begun, args):
    """Seconds of each greedy token behind the prompt, the first two left out."""
    cache, token, out = begun.past_key_values, begun.logits[:, -1:].argmax(-1), []
    for _ in range(args.tokens + 2):
        start = time.perf_counter()
        step = language(input_ids=token, past_key_values=cache, use_cache=True)
        token = step.logits[:, -1:].argmax(-1)
        token.item()
        out.append(time.perf_counter() - start)
    return out[2:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.arguments(parser)
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--tokens", type=int, default=16, help="tokens to decode")
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    columns = [
        ("vision + projector", "vision_seconds", 1, "s", False),
        (f"prefill {PROMPT}", "prefill_tokens_per_second", 1, "tok/s", True),
        ("decode", "decode_tokens_per_second", 1, "tok/s", True),
        ("peak memory", "peak_memory_bytes", 2**-30, "GiB", False),
    ]
    common.report(args, common.in_turns(args, []), columns)


if __name__ == "__main__":
    main()
