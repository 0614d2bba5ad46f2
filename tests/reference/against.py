"""Holds what bunny.py has written down itself against the reference's own code, given by path:
MiniCPM's scales, and towers that see pictures in several sizes.

    git clone https://github.com/BAAI-DCAI/Bunny
    pip install torch transformers==4.40.2 einops safetensors pillow
    python tests/reference/against.py Bunny

The reference's MiniCPM needs transformers of its time, so this reads fixtures that models.py has made
and imports nothing of what made them. Nothing is written.
"""

import importlib
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import SiglipVisionConfig, SiglipVisionModel

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "models"
TOWER = "model.vision_tower.vision_tower."


def open_case(name):
    folder = FIXTURES / name
    config = json.loads((folder / "config.json").read_text())
    return folder, config, load_file(folder / "model.safetensors"), load_file(folder / "expected.safetensors")


def compare(what, found, expected):
    off = ((found - expected).abs().max() / expected.abs().max()).item()
    print(f"{what}: {tuple(expected.shape)}, off by {off:.1e}")
    assert off < 1e-5, what


def minicpm(checkout):
    """The whole language model, from the embeddings of the first turn, which it scales as the
    reference's wrapper does: words and pictures alike."""
    sys.path.insert(0, str(checkout / "bunny/model/language_model"))
    module = importlib.import_module("minicpm.modeling_minicpm")
    _, config, tensors, expected = open_case("minicpm-siglip")
    fields = {k: v for k, v in config.items() if k not in ("model_type", "architectures", "torch_dtype")}
    made = importlib.import_module("minicpm.configuration_minicpm").MiniCPMConfig(**fields)
    made._attn_implementation = "eager"
    model = module.MiniCPMForCausalLM(made).eval()
    own = {k: v for k, v in tensors.items() if "vision_tower" not in k and "mm_projector" not in k}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    out = model(inputs_embeds=expected["wide.0.hidden.0"][None], output_hidden_states=True, use_cache=False)
    for layer, hidden in enumerate(out.hidden_states[1:-1], 1):
        compare(f"minicpm layer {layer}", hidden[0], expected[f"wide.0.hidden.{layer}"])
    compare("minicpm normed", out.hidden_states[-1][0], expected["wide.0.normed"])
    compare("minicpm logits", out.logits[0], expected["wide.0.logits"])
    # The picture's features went in scaled, too.
    features, embeds = expected["wide.projected"] * config["scale_emb"], expected["wide.0.hidden.0"]
    starts = (embeds == features[0]).all(1).nonzero()
    assert len(starts) == 1, "the scaled features are not among the embeddings"
    compare("minicpm picture", embeds[starts[0, 0] :][: len(features)], features)


def multiscale(checkout):
    sys.path.insert(0, str(checkout / "bunny/util"))
    forward = importlib.import_module("s2wrapper.core").forward
    folder, config, tensors, expected = open_case("phi3-siglip-s2")
    fields = json.loads((folder / config["mm_vision_tower"] / "config.json").read_text())
    tower = SiglipVisionModel(SiglipVisionConfig(**{k: v for k, v in fields.items() if k != "model_type"})).eval()
    tower.load_state_dict({k.removeprefix(TOWER): v for k, v in tensors.items() if k.startswith(TOWER)})
    scales = sorted(int(scale) for scale in config["s2_scales"].split(","))
    see = lambda pixels: tower(pixels, output_hidden_states=True).hidden_states[-2]
    # A wide picture and a tall one, each by itself and both as one batch.
    pictures = [expected[f"{name}.pixels"] for name in ("wide", "tall")]
    towers = [expected[f"{name}.tower"] for name in ("wide", "tall")]
    for pixels, seen in zip(pictures, towers):
        compare("s2", forward(see, pixels, img_sizes=scales, max_split_size=scales[0])[0], seen)
    both = forward(see, torch.cat(pictures), img_sizes=scales, max_split_size=scales[0])
    compare("s2 of both", both, torch.stack(towers))


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    checkout = Path(sys.argv[1]).resolve()
    multiscale(checkout)
    minicpm(checkout)


if __name__ == "__main__":
    main()
