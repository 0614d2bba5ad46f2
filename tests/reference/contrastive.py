"""Makes tests/fixtures/contrastive: what one batch of pairs teaches a small SigLIP, in transformers.

    python tests/reference/contrastive.py

Both towers are transformers' SiglipModel with random weights and the paper's first scale and bias;
the loss is its own. README.md says what the files hold.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import SiglipConfig, SiglipModel

OUT = Path(__file__).resolve().parents[1] / "fixtures" / "contrastive"
PAIRS = 5

VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
TEXT = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 6,
}
VOCABULARY = 20


def main():
    torch.manual_seed(7)
    text = TEXT | {"vocab_size": VOCABULARY, "projection_size": VISION["hidden_size"]}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Biases and norms too: nothing may be zero or one by default.
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.logit_scale.fill_(math.log(10))
        model.logit_bias.fill_(-10)
    batch = {
        "pixel_values": torch.randn(PAIRS, 3, VISION["image_size"], VISION["image_size"]),
        "input_ids": torch.randint(0, VOCABULARY, (PAIRS, TEXT["max_position_embeddings"])),
    }
    result = model(**batch, return_loss=True)
    result.loss.backward()
    OUT.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    weights = {name: value for name, value in weights.items() if "position_ids" not in name}
    gradients = {name: value.grad for name, value in model.named_parameters()}
    save_file(weights, OUT / "model.safetensors")
    save_file(gradients, OUT / "gradients.safetensors")
    save_file(batch | {"logits": result.logits_per_text.detach()}, OUT / "batch.safetensors")
    expected = {
        "vision": VISION,
        "text": TEXT,
        "vocab_size": VOCABULARY,
        "loss": result.loss.item(),
    }
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
