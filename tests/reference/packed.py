"""Makes fixtures of weights in integers, by compressed-tensors' own library.

    python tests/reference/packed.py                    # all of it
    python tests/reference/packed.py --read-back FOLDER # what this project wrote, read by that library

`bunny-weights/tests/fixtures/packed`: layers of every form in two files, `words` (pack-quantized) and
`bytes` (int-quantized), each with the `NAME.json` that stands as `quantization_config` beside them, and
in `NAME.expected.safetensors` what the library makes of their integers, in f32.

`tests/fixtures/models/phi-siglip-int4` and `stablelm-siglip-int8`: small Bunnies whose language model the
library has quantised, head ignored, and what transformers' Phi and StableLM say with the numbers that
those integers stand for.
"""

import argparse
import json
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor, ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    apply_quantization_config,
)
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file

import bunny
import models
from bunny import Bunny
from tiny import (
    EOS,
    bunny_config,
    make_tokenizer,
    phi_config,
    random_weights,
    siglip_config,
    stablelm_config,
    write_json,
    write_tensors,
    write_tokenizer,
)

CRATE = Path(__file__).parents[2] / "bunny-weights" / "tests" / "fixtures" / "packed"

# Name, sides, type of the scales, and what else is said of the weights. Rows are no multiple of a word.
LAYERS = {
    "words": [
        ("sym4_32", (5, 96), torch.float16, dict(num_bits=4, strategy="group", group_size=32)),
        ("asym4_32", (13, 96), torch.float16, dict(num_bits=4, strategy="group", group_size=32, symmetric=False)),
        ("sym4_64", (5, 128), torch.bfloat16, dict(num_bits=4, strategy="group", group_size=64)),
        ("sym4_128", (3, 256), torch.float16, dict(num_bits=4, strategy="group", group_size=128)),
        ("sym4_16", (3, 48), torch.float16, dict(num_bits=4, strategy="group", group_size=16)),
        ("sym4_row", (6, 77), torch.float16, dict(num_bits=4, strategy="channel")),
        ("asym4_row", (6, 77), torch.float32, dict(num_bits=4, strategy="channel", symmetric=False)),
        ("sym8_32", (5, 96), torch.float16, dict(num_bits=8, strategy="group", group_size=32)),
        ("asym8_row", (7, 66), torch.float16, dict(num_bits=8, strategy="channel", symmetric=False)),
    ],
    "bytes": [
        ("sym8_row", (5, 96), torch.float16, dict(num_bits=8, strategy="channel")),
        ("sym8_128", (5, 256), torch.bfloat16, dict(num_bits=8, strategy="group", group_size=128)),
        ("sym8_all", (4, 40), torch.float32, dict(num_bits=8, strategy="tensor")),
        ("asym8_row", (5, 96), torch.float16, dict(num_bits=8, strategy="channel", symmetric=False)),
    ],
}
FORMATS = {"words": "pack-quantized", "bytes": "int-quantized"}


def scales_and_zeros(weight, args):
    """The library's own, of the least and the greatest number of a group."""
    groups = {
        "group": lambda: weight.unflatten(1, (-1, args.group_size)),
        "channel": lambda: weight[:, None],
        "tensor": lambda: weight.reshape(1, 1, -1),
    }[args.strategy]()
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    return (scale.reshape(1), zero.reshape(1)) if args.strategy == "tensor" else (scale, zero)


def golden(name):
    random = torch.Generator().manual_seed(len(name))
    compressor = BaseCompressor.get_value_from_registry(FORMATS[name])
    stored, expected, groups = {}, {}, {}
    for layer, sides, dtype, said in LAYERS[name]:
        args = QuantizationArgs(type="int", **{"symmetric": True} | said)
        scheme = QuantizationScheme(targets=[layer], weights=args, format=FORMATS[name])
        weight = torch.randn(sides, generator=random).to(dtype)
        weight[1] *= 1e-2
        scale, zero = scales_and_zeros(weight, args)
        state = {"weight": weight, "weight_scale": scale.to(dtype)}
        state["weight_zero_point"] = zero.to(torch.int8)
        packed = compressor.compress(state, scheme)
        stored |= {f"{layer}.{part}": tensor for part, tensor in packed.items()}
        exact = packed | {"weight_scale": packed["weight_scale"].float()}
        expected[f"{layer}.weight"] = compressor.decompress(exact, scheme)["weight"].float()
        groups[f"group_{len(groups)}"] = scheme
    stored["left.weight"] = expected["left.weight"] = torch.randn((3, 4), generator=random)
    config = QuantizationConfig(config_groups=groups, format=FORMATS[name], ignore=["left"])
    write_tensors(CRATE / f"{name}.safetensors", stored)
    write_tensors(CRATE / f"{name}.expected.safetensors", expected)
    write_json(CRATE / f"{name}.json", json.loads(config.model_dump_json()))


def quantised(name, base, seed, form, dtype, **said):
    """A Bunny in one folder whose language model is in integers."""
    folder, tokenizer, vision = models.start(name), make_tokenizer(), siglip_config()
    base = base(tokenizer.get_vocab_size()) | {"torch_dtype": str(dtype).removeprefix("torch.")}
    config = bunny_config(base, "siglip-tower", vision["hidden_size"], "mlp2x_gelu", tokenizer.token_to_id(EOS))
    model = Bunny(config, vision)
    model.load(random_weights(model, tokenizer, seed))
    args = QuantizationArgs(type="int", **{"symmetric": True} | said)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, format=form)
    plan = QuantizationConfig(config_groups={"group_0": scheme}, format=form, ignore=["lm_head"])
    language = model.language.to(dtype)
    apply_quantization_config(language, plan)
    for module in language.modules():
        if hasattr(module, "weight_scale"):
            scale, zero = scales_and_zeros(module.weight.data, args)
            module.weight_scale.data = scale.to(dtype)
            if hasattr(module, "weight_zero_point"):
                module.weight_zero_point.data = zero.to(torch.int8)
    compressor = ModelCompressor.from_pretrained_model(language)
    compressor.compress_model(language)
    tensors = {k: v.to(dtype) for k, v in model.named().items() if not k.startswith(("model.layers", "model.embed", "lm_head"))}
    tensors |= language.state_dict()
    said = json.loads(compressor.quantization_config.model_dump_json())
    write_json(folder / "config.json", config | {"quantization_config": said | {"quant_method": "compressed-tensors"}})
    write_tokenizer(folder, tokenizer)
    models.write_tower_folder(folder / "siglip-tower", vision)
    write_tensors(folder / "model.safetensors", tensors)

    opened = Bunny(config, vision)
    opened.load({k: v.float() for k, v in tensors_in_floats(folder).items()})
    models.expect(folder, opened, tokenizer, only_logits=True)


def tensors_in_floats(folder):
    """All tensors of a folder, those in integers as the library opens them, scales in f32."""
    said = json.loads((folder / "config.json").read_text())["quantization_config"]
    files = sorted(folder.glob("*.safetensors"))
    stored = {k: v for file in files if "expected" not in file.name for k, v in load_file(file).items()}
    config = QuantizationConfig.model_validate({k: v for k, v in said.items() if k != "quant_method"})
    layers = sorted({k.rsplit(".", 1)[0] for k in stored if k.endswith(".weight_scale")})
    opened = dict(stored)
    for layer in layers:
        parts = {k.rsplit(".", 1)[1]: v for k, v in stored.items() if k.rsplit(".", 1)[0] == layer}
        scheme = scheme_of(layer, config)
        form = getattr(scheme.format or config.format, "value", scheme.format or config.format)
        parts["weight_scale"] = parts["weight_scale"].float()
        bias = parts.pop("bias", None)
        weight = BaseCompressor.get_value_from_registry(form).decompress(parts, scheme)["weight"]
        for part in parts:
            opened.pop(f"{layer}.{part}", None)
        opened[f"{layer}.weight"] = weight
        if bias is not None:
            opened[f"{layer}.bias"] = bias
    return opened


def scheme_of(layer, config):
    """The group of layers that one belongs to, as the library matches names."""
    from compressed_tensors.utils.match import match_targets

    module = torch.nn.Linear(1, 1)
    assert not match_targets(layer, module, config.ignore), f"{layer} is ignored, and in integers"
    for scheme in config.config_groups.values():
        if match_targets(layer, module, scheme.targets):
            return scheme
    raise AssertionError(f"no group of layers has {layer}")


def read_back(folder):
    """What the library makes of a folder of this project's, and that it finds the layers it should."""
    opened = tensors_in_floats(folder)
    out = folder / "opened.safetensors"
    write_tensors(out, {k: v.float() for k, v in opened.items()})
    print(f"{out}: {len(opened)} tensors")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--read-back", type=Path)
    arguments = parser.parse_args()
    if arguments.read_back:
        return read_back(arguments.read_back)
    CRATE.mkdir(parents=True, exist_ok=True)
    for name in LAYERS:
        golden(name)
    sizes = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=4, num_hidden_layers=2)
    phi = lambda vocab: phi_config(vocab, intermediate_size=128, **sizes)
    quantised("phi-siglip-int4", phi, 6, "pack-quantized", torch.float16, num_bits=4, strategy="group", group_size=32)
    quantised("stablelm-siglip-int8", stablelm_config, 5, "int-quantized", torch.bfloat16, num_bits=8, strategy="channel")


if __name__ == "__main__":
    main()
