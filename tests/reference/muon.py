"""Makes tests/fixtures/muon: a few steps of Muon on matrices of every form, in f64.

    python tests/reference/muon.py

The steps are written out here by the definition, and torch's own, which multiplies in bf16, has to
come out near them. README.md says what the files hold.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parents[1] / "fixtures" / "muon"
SHAPES = {"tall": (24, 10), "wide": (8, 20), "square": (12, 12)}
RATES = [0.02, 0.01, 0.03, 0.02]
WEIGHT_DECAY = 0.1
MOMENTUM = 0.95


def orthogonalised(matrix):
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


def steps(weight, gradients):
    momentum = torch.zeros_like(weight)
    for rate, gradient in zip(RATES, gradients):
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        ahead = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        factor = 0.2 * max(weight.shape) ** 0.5
        weight = weight * (1 - rate * WEIGHT_DECAY) - rate * factor * orthogonalised(ahead)
    return weight


def torchs(weight, gradients):
    weight = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.Muon(
        [weight],
        weight_decay=WEIGHT_DECAY,
        momentum=MOMENTUM,
        adjust_lr_fn="match_rms_adamw",
    )
    for rate, gradient in zip(RATES, gradients):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


def main():
    torch.manual_seed(11)
    tensors = {}
    for name, shape in SHAPES.items():
        weight = torch.randn(shape, dtype=torch.float64)
        gradients = torch.randn((len(RATES), *shape), dtype=torch.float64)
        # As of a model: a few directions are far stronger than the rest.
        gradients *= torch.logspace(0, -1.5, shape[1], dtype=torch.float64)
        # The numbers that both start from are those of the file.
        weight, gradients = weight.float().double(), gradients.float().double()
        after = steps(weight, gradients)
        moved = (after - weight).abs().mean()
        off = (torchs(weight, gradients) - after).abs().mean()
        assert off < 0.02 * moved, (name, off, moved)
        tensors[f"{name}.before"] = weight.float()
        tensors[f"{name}.gradients"] = gradients.float()
        tensors[f"{name}.after"] = after.float()
    OUT.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT / "steps.safetensors")
    expected = {"rates": RATES, "weight_decay": WEIGHT_DECAY}
    (OUT / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
