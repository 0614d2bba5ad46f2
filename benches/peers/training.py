"""How long transformers and PEFT take for one LoRA step of a Bunny of true shape, beside bunny if asked.

    python benches/peers/training.py --rounds 2 --bunny target/release/bunny-cli

Rows of 768 positions (one unless told otherwise), 729 of them a picture's; adapters of rank 128 on
every linear layer of the language model, the projector learning too, the tower frozen, activations
recomputed unless told otherwise. A step is the tower, the forward and backward pass, clipping at
1.0, and AdamW.
"""

import argparse
import json
import time

import common
from common import BEFORE, PICTURE, PROMPT


def worker(args):
    """One process: builds the model and times whole steps."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(args.threads)
    dtype = common.dtype_of(args.worker)
    begun = time.perf_counter()
    language, tower, projector = common.build(args.arch, dtype, args.layers, args.device)
    language.config.use_cache = False
    family = common.LANGUAGE[args.arch]["family"]
    adapted = get_peft_model(
        language,
        LoraConfig(
            r=128,
            lora_alpha=256,
            lora_dropout=0.05,
            bias="none",
            task_type="CAUSAL_LM",
            target_modules=common.LINEARS[family],
        ),
    )
    adapted.train()
    if not args.no_gradient_checkpointing:
        language.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    projector.requires_grad_(True)
    adapters = [p for p in adapted.parameters() if p.requires_grad]
    learners = adapters + list(projector.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": adapters, "lr": 2e-4}, {"params": list(projector.parameters()), "lr": 2e-5}],
        weight_decay=0.0,
        foreach=args.device == "cuda",
    )
    out = {"dtype": args.worker, "threads": args.threads, "load_seconds": time.perf_counter() - begun}
    pixels = torch.randn(args.batch, 3, 384, 384).to(args.device, dtype)
    ids = torch.randint(0, 50000, (args.batch, args.positions - PICTURE), device=args.device)
    labels = torch.cat([torch.full((args.batch, BEFORE + PICTURE), -100, device=args.device), ids[:, BEFORE:]], 1)

    def step():
        with torch.no_grad():
            features = tower(pixel_values=pixels).last_hidden_state
        text = language.get_input_embeddings()(ids)
        embeds = torch.cat([text[:, :BEFORE], projector(features), text[:, BEFORE:]], 1)
        loss = adapted(inputs_embeds=embeds, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learners, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        out["loss"] = loss.item()

    seconds = common.timed("step", step, args)
    out |= {
        "train_step_seconds": min(seconds),
        "train_step_seconds_all": seconds,
        "train_tokens_per_second": args.batch * args.positions / min(seconds),
        "trainable_parameters": sum(p.numel() for p in learners),
    }
    print(json.dumps(out | {"peak_memory_bytes": common.peak_memory(args.device)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.arguments(parser)
    parser.add_argument("--batch", type=int, default=1, help="rows of a step")
    parser.add_argument("--positions", type=int, default=PROMPT, help="of a row, the picture's 729 included")
    parser.add_argument("--no-gradient-checkpointing", action="store_true", help="keep all layers' results")
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    columns = [
        ("LoRA step", "train_step_seconds", 1, "s", False),
        ("", "train_tokens_per_second", 1, "tok/s", True),
        ("peak memory", "peak_memory_bytes", 2**-30, "GiB", False),
    ]
    own = ["train", "--batch", str(args.batch), "--positions", str(args.positions)]
    own += ["--no-gradient-checkpointing"] if args.no_gradient_checkpointing else []
    common.report(args, common.in_turns(args, own), columns)


if __name__ == "__main__":
    main()
