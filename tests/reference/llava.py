"""Writes tests/fixtures/llava: small LLaVAs as transformers itself saves them, and what it makes of them.

    python tests/reference/llava.py   # once with transformers 4.57.6, once with 5

Each version writes the folders of its own:

    phi-siglip-V    Phi, SigLIP, pictures padded by LlavaImageProcessor: what Bunnies are exported as
    llama-clip-V    Llama and CLIP, pictures cropped by CLIPImageProcessor: as llava-hf publishes them

`expected.json` has prompts, their ids (one -200 for all places of a picture) and greedy answers;
`expected.safetensors` the features of a picture and every logit of the first prompt. Everything in f32 on
one thread; every greedy choice leads by 0.01 or more.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PhiConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

from tiny import EOS, make_tokenizer, sentencepiece_tokenizer

OUT = Path(__file__).resolve().parents[1] / "fixtures" / "llava"
MAJOR = transformers.__version__.split(".")[0]
PICTURES = OUT.parent / "models"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
QUESTIONS = [("wide.png", "What is in the picture?"), ("tall.png", "Describe the image in detail.")]
ANSWER = 12


def rope(base, share=1.0):
    if MAJOR == "4":
        return {"rope_theta": base} | ({"partial_rotary_factor": share} if share != 1.0 else {})
    return {"rope_parameters": {"rope_type": "default", "rope_theta": base, "partial_rotary_factor": share}}


def phi_siglip(vocabulary, end):
    text = PhiConfig(
        vocab_size=vocabulary, hidden_size=48, intermediate_size=112, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, max_position_embeddings=512, bos_token_id=end, eos_token_id=end,
        architectures=["PhiForCausalLM"], **rope(10000.0, 0.5),
    )
    vision = SiglipVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=46,
        patch_size=14, vision_use_head=False,
    )
    return text, vision, {"vision_feature_layer": -2, "vision_feature_select_strategy": "full"}


def llama_clip(vocabulary, end):
    # Sizes that the class has anyway are in no file.
    text = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, architectures=["LlamaForCausalLM"],
        **rope(10000.0),
    )
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2, image_size=42,
        patch_size=14, projection_dim=16,
    )
    # One layer further down than anything published: two layers of the file are read by nobody.
    return text, vision, {"vision_feature_layer": -3, "vision_feature_select_strategy": "default"}


def images(tower):
    square = {"height": 46, "width": 46}
    if tower == "siglip":
        if MAJOR == "4":
            from transformers import LlavaImageProcessor as Processor
        else:
            from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil as Processor
        return Processor(
            do_pad=True, size=square, crop_size=square, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
        )
    if MAJOR == "4":
        from transformers import CLIPImageProcessor as Processor
    else:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as Processor
    return Processor(size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42})


@torch.no_grad()
def draw(model, quiet, seed):
    """Weights that keep signals near unit size, attend sharply, and lead clearly when they choose."""
    random = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        number = torch.randn(parameter.shape, generator=random)
        if "norm" in name:
            number = number * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        elif "embed_tokens" in name:
            number *= 0.4
        elif "lm_head" in name:
            number *= 4 / parameter.shape[1] ** 0.5
            number[quiet] *= 0.1
        elif parameter.ndim == 1:
            number *= 0.1
        elif "position_embedding" in name or "class_embedding" in name:
            number *= 0.5
        else:
            number *= 1.5 / parameter[0].numel() ** 0.5
        parameter.copy_(number)


@torch.no_grad()
def write(name, make, tower, made, end, more, seed):
    folder = OUT / f"{name}-{MAJOR}"
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=end, pad_token=end, extra_special_tokens={"image_token": "<image>"}, **more
    )
    vocabulary, eos = len(tokenizer), tokenizer.eos_token_id
    image = tokenizer.convert_tokens_to_ids("<image>")
    text, vision, choice = make(vocabulary, eos)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, **choice)
    model = LlavaForConditionalGeneration(config).eval()
    printable = lambda i: tokenizer.decode([i]).isprintable() and "\ufffd" not in tokenizer.decode([i])
    draw(model, [i for i in range(vocabulary) if not printable(i)], seed)
    model.generation_config.eos_token_id = eos
    model.generation_config.pad_token_id = eos
    extra = 1 if tower == "clip" else 0
    processor = LlavaProcessor(
        images(tower), tokenizer, patch_size=14, num_additional_image_tokens=extra,
        vision_feature_select_strategy=choice["vision_feature_select_strategy"],
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)

    turns, tensors, margin = [], {}, float("inf")
    for file, question in QUESTIONS:
        prompt = f"{SYSTEM} USER: <image>\n{question} ASSISTANT:"
        inputs = processor(text=prompt, images=Image.open(PICTURES / file).convert("RGB"), return_tensors="pt")
        ids = inputs["input_ids"][0].tolist()
        places = [at for at, token in enumerate(ids) if token == image]
        shown = ids[: places[0]] + [-200] + ids[places[-1] + 1 :]
        if not turns:
            features = model.get_image_features(inputs["pixel_values"])
            features = getattr(features, "pooler_output", features)
            tensors["features"] = torch.cat(list(features)).reshape(len(places), -1)
            tensors["logits"] = model(**inputs).logits[0]
            tensors["pixels"] = inputs["pixel_values"]
        answer = []
        while len(answer) < ANSWER and eos not in answer:
            best = model(**inputs).logits[0, -1].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            answer.append(best.indices[0].item())
            step = torch.tensor([answer[-1:]])
            inputs["input_ids"] = torch.cat([inputs["input_ids"], step], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        words = tokenizer.decode(answer, skip_special_tokens=True).strip()
        turns.append({"picture": file, "question": question, "prompt": prompt, "input_ids": shown,
                      "generated_ids": answer, "generated_text": words})
    assert margin > 0.01, f"{folder.name}: a choice leads by {margin:.1e} only, take another seed"
    expected = {"transformers": transformers.__version__, "max_new_tokens": ANSWER, "turns": turns}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "expected.safetensors", {"format": "pt"})
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    print(f"{folder.name}: {vocabulary} tokens, smallest lead {margin:.3f}")
    for turn in turns:
        print("  ", repr(turn["generated_text"]))


def with_image(tokenizer):
    tokenizer.add_special_tokens(["<image>"])
    return tokenizer


if __name__ == "__main__":
    torch.set_num_threads(1)
    seeds = dict(zip(["phi", "llama"], map(int, sys.argv[1:3]))) if len(sys.argv) > 2 else {"phi": 2, "llama": 2}
    write("phi-siglip", phi_siglip, "siglip", with_image(make_tokenizer()), EOS, {"bos_token": EOS}, seeds["phi"])
    write("llama-clip", llama_clip, "clip", with_image(sentencepiece_tokenizer(True)), "</s>",
          {"bos_token": "<s>", "unk_token": "<unk>"}, seeds["llama"])
