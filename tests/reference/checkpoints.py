"""Files of weights as torch, safetensors and peft write them, and the bytes they hold.

Writes bunny-weights/tests/fixtures/checkpoints: one file or folder per case, and `expected.json` with
number type, shape and bytes (hexadecimal, little endian, contiguous) of every tensor in it. Cases
under `refused` must not load. All but `legacy.pt` come out byte for byte the same again; the keys
of its storages are memory addresses.
"""

import argparse
import json
import pathlib
import shutil
from collections import OrderedDict

import peft
import torch
import transformers
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent.parent / "bunny-weights" / "tests" / "fixtures" / "checkpoints"

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def numbers(*shape, dtype=torch.float32, start=0):
    """Numbers that differ from their neighbours and are exact in every type."""
    count = int(torch.Size(shape).numel())
    values = (torch.arange(start, start + count) * 37) % 127
    return values.reshape(shape).to(dtype)


def bytes_of(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def described(tensors):
    return {
        name: {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "bytes": bytes_of(tensor).hex(),
        }
        for name, tensor in sorted(tensors.items())
    }


def every_dtype():
    return {f"of.{name}": numbers(2, 3, dtype=dtype) for dtype, name in DTYPES.items()}


def odd_layouts():
    """Views as they are found in checkpoints: of one storage, at strides, at offsets."""
    base = numbers(6, 8)
    half = numbers(3, 4, 5, 6, dtype=torch.float16)
    return {
        "base": base,
        "transposed": base.t(),
        "rows": base[2:5],
        "columns": base[:, 3:6],
        "every_other": base[1::2, ::3],
        "scalar": base[4, 5],
        "permuted": half.permute(3, 1, 0, 2),
        "channels_last": half.contiguous(memory_format=torch.channels_last),
        "one_column": half[:, :, :, 2:3],
        "empty": base[:, 8:],
        "same": base,
    }


class Small(torch.nn.Module):
    """Parameters, a buffer, and a submodule, so that the state dict carries version numbers."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.norm = torch.nn.BatchNorm1d(2)
        with torch.no_grad():
            self.linear.weight.copy_(numbers(2, 3))
            self.linear.bias.copy_(numbers(2, start=6))


def training_state():
    """What scripts put beside a state dict."""
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.linear(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "epoch": 7,
        "name": "eva",
        "optimizer": optimizer.state_dict(),
        "scaler": {"scale": 65536.0, "dtype": torch.float16, "on": True, "off": False},
        "rng": torch.zeros(4, dtype=torch.uint8),
        "large": 1 << 70,
        "nothing": None,
    }


def pickled(expected):
    cases = {
        "every_dtype.pt": every_dtype(),
        "odd_layouts.pt": odd_layouts(),
        "ordered.bin": Small().state_dict(),
        "parameters.pth": dict(Small().named_parameters()),
    }
    for name, tensors in cases.items():
        torch.save(tensors, OUT / name)
        expected[name] = described(tensors)

    small = Small().state_dict()
    for wrapper in ("model", "module", "state_dict"):
        state = training_state()
        torch.save(state | {wrapper: small}, OUT / f"wrapped_{wrapper}.pt")
        expected[f"wrapped_{wrapper}.pt"] = described(small)
    expected["skipped"] = sorted(state)

    # A tensor may be called as a wrapper is.
    tensors = {"model": numbers(2), "module": numbers(3)}
    torch.save(tensors, OUT / "no_wrapper.pt")
    expected["no_wrapper.pt"] = described(tensors)

    tensors = odd_layouts() | every_dtype()
    torch.save(tensors, OUT / "legacy.pt", _use_new_zipfile_serialization=False)
    expected["legacy.pt"] = described(tensors)
    for protocol in (3, 4, 5):
        torch.save(tensors, OUT / f"protocol_{protocol}.pt", pickle_protocol=protocol)
        expected[f"protocol_{protocol}.pt"] = described(tensors)


def refused():
    folder = OUT / "refused"
    folder.mkdir()
    weight = numbers(2, 3)
    torch.save({"weight": weight, "args": argparse.Namespace(lr=1)}, folder / "namespace.pt")
    torch.save(Small(), folder / "whole_module.pt")
    torch.save({"weight": weight, "step": 3}, folder / "number.pt")
    torch.save({"weight": {"inner": weight}}, folder / "nested.pt")
    torch.save({0: weight}, folder / "numbered.pt")
    torch.save([weight], folder / "list.pt")
    torch.save(weight, folder / "bare.pt")
    torch.save({"weight": numbers(1, 3).expand(1000, 3)}, folder / "expanded.pt")
    torch.save({"weight": torch.complex(weight, weight)}, folder / "complex.pt")
    torch.save({"weight": torch.complex(weight, weight).conj().imag}, folder / "negated.pt")
    torch.save({"weight": weight.to(torch.float8_e4m3fn)}, folder / "float8.pt")
    torch.save({"weight": weight.to_sparse()}, folder / "sparse.pt")


def safetensors(expected):
    tensors = every_dtype() | {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 4)}
    save_file(tensors, OUT / "every_dtype.safetensors", metadata={"format": "pt"})
    expected["every_dtype.safetensors"] = described(tensors)

    tensors = {f"model.layers.{i}.weight": numbers(4, 8, start=i) for i in range(5)}
    folder = OUT / "sharded"
    folder.mkdir()
    save_torch_state_dict(tensors, folder, max_shard_size=300)
    expected["sharded"] = described(tensors)

    folder = OUT / "sharded_bin"
    folder.mkdir()
    save_torch_state_dict(
        tensors,
        folder,
        max_shard_size=300,
        safe_serialization=False,
        filename_pattern="pytorch_model{suffix}.bin",
    )
    expected["sharded_bin"] = described(tensors)


def adapters(expected):
    """An adapter of two layers of Phi and a projector beside it, as the reference's scripts do."""
    torch.manual_seed(0)
    config = transformers.PhiConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = transformers.PhiForCausalLM(config)
    model.model.mm_projector = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 8)
    )
    lora = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=0.05,
        target_modules=["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(model, lora)
    folder = OUT / "adapter"
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    # A set in PEFT, so in another order each time.
    written = json.loads((folder / "adapter_config.json").read_text())
    written["target_modules"].sort()
    (folder / "adapter_config.json").write_text(json.dumps(written, indent=2))
    expected["adapter"] = described(load_file(folder / "adapter_model.safetensors"))

    others = {
        name: parameter.detach().to(torch.bfloat16)
        for name, parameter in model.named_parameters()
        if "mm_projector" in name and "lora_" not in name
    }
    assert len(others) == 4 and all(name.startswith("base_model.model.model.") for name in others)
    torch.save(others, folder / "non_lora_trainables.bin")
    expected["adapter/non_lora_trainables.bin"] = described(others)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    expected = {}
    pickled(expected)
    refused()
    safetensors(expected)
    adapters(expected)
    for path in OUT.rglob("*.safetensors"):
        path.chmod(0o644)
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
