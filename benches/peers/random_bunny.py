"""A Bunny of true shape with random weights on disk: as a folder for bunny, and its language model as a GGUF
file for llama.cpp. NumPy, and gguf for the second."""

import json
import pathlib
import struct

import numpy as np

# Of Phi-2 with SigLIP, as published; fields that are not here are the built-in model's.
PHI_2 = {
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "partial_rotary_factor": 0.4,
    "vocab_size": 50295,
    "torch_dtype": "bfloat16",
    "tokenizer_model_max_length": 2048,
    "mm_hidden_size": 1152,
}
SIGLIP = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
}
VISION = "model.vision_tower.vision_tower.vision_model"


def linear(name, rows, columns):
    return {f"{name}.weight": [rows, columns], f"{name}.bias": [rows]}


def norm(name, width):
    return {f"{name}.weight": [width], f"{name}.bias": [width]}


def language_shapes(config):
    """Names and shapes of a Phi without its vision."""
    hidden, inner, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes = {"model.embed_tokens.weight": [rows, hidden], "lm_head.weight": [rows, hidden]}
    shapes |= norm("model.final_layernorm", hidden)
    for layer in (f"model.layers.{number}" for number in range(config["num_hidden_layers"])):
        shapes |= norm(f"{layer}.input_layernorm", hidden)
        for part in ("q_proj", "k_proj", "v_proj", "dense"):
            shapes |= linear(f"{layer}.self_attn.{part}", hidden, hidden)
        shapes |= linear(f"{layer}.mlp.fc1", inner, hidden) | linear(f"{layer}.mlp.fc2", hidden, inner)
    return shapes


def vision_shapes(config, tower):
    """Names and shapes of a SigLIP and of the projector behind it."""
    hidden, inner, patch = tower["hidden_size"], tower["intermediate_size"], tower["patch_size"]
    patches = (tower["image_size"] // patch) ** 2
    shapes = {
        f"{VISION}.embeddings.patch_embedding.weight": [hidden, 3, patch, patch],
        f"{VISION}.embeddings.patch_embedding.bias": [hidden],
        f"{VISION}.embeddings.position_embedding.weight": [patches, hidden],
    } | norm(f"{VISION}.post_layernorm", hidden)
    for layer in (f"{VISION}.encoder.layers.{number}" for number in range(tower["num_hidden_layers"])):
        shapes |= norm(f"{layer}.layer_norm1", hidden) | norm(f"{layer}.layer_norm2", hidden)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{layer}.self_attn.{part}", hidden, hidden)
        shapes |= linear(f"{layer}.mlp.fc1", inner, hidden) | linear(f"{layer}.mlp.fc2", hidden, inner)
    width = config["hidden_size"]
    return shapes | linear("model.mm_projector.0", width, hidden) | linear("model.mm_projector.2", width, width)


class Draws:
    """Numbers from -0.02 to 0.02 in bf16, drawn once and laid out anew from another place each time."""

    def __init__(self, seed=0, count=(1 << 25) + 12_289):
        numbers = np.random.default_rng(seed).uniform(-0.02, 0.02, count).astype(np.float32)
        self.bits = (numbers.view(np.uint32) >> 16).astype(np.uint16)
        self.at = 0

    def take(self, count):
        while count:
            some = self.bits[self.at : self.at + count]
            self.at = (self.at + len(some)) % len(self.bits)
            count -= len(some)
            yield some


def write_folder(template, folder):
    """A folder that `bunny-cli --model` opens; `template` is the built-in model's, as `model unpack` wrote it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((template / "config.json").read_text()) | PHI_2
    tower = json.loads((template / "siglip-tower/config.json").read_text()) | SIGLIP
    (folder / "siglip-tower").mkdir(exist_ok=True)
    (folder / "siglip-tower/config.json").write_text(json.dumps(tower))
    for name in ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((template / name).read_bytes())
    tokenizer = json.loads((template / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    # Every row is a word, since a model of random weights says any of them.
    vocabulary |= {f"Ġw{id}": id for id in range(len(vocabulary), config["vocab_size"])}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    shapes, header, end = language_shapes(config) | vision_shapes(config, tower), {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draws = Draws()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            if "norm" in name:
                # 1 in bf16, or 0.
                file.write(np.full(count, 0x3F80 if name.endswith("weight") else 0, np.uint16).tobytes())
            else:
                file.writelines(some.tobytes() for some in draws.take(count))
    # Whoever was interrupted has none.
    (folder / "config.json").write_text(json.dumps(config))


def open_tensors(folder):
    """Each tensor's bits, and whether they are bf16 (else f16), mapped from the folder's one file."""
    path = folder / "model.safetensors"
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    data = np.memmap(path, np.uint8, "r", 8 + length)
    header.pop("__metadata__", None)

    def tensor(name):
        entry = header[name]
        begin, end = entry["data_offsets"]
        return data[begin:end].view(np.uint16).reshape(entry["shape"]), entry["dtype"] == "BF16"

    return tensor


def write_gguf(folder, path):
    """The folder's language model, a Phi, as llama.cpp reads it, in the number type that it has."""
    import gguf

    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    tensor, width = open_tensors(folder), config["hidden_size"]
    writer = gguf.GGUFWriter(path, "phi2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_rope_dimension_count(int(config["partial_rotary_factor"] * width // config["num_attention_heads"]))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("phi-2")
    words = {id: word for word, id in tokenizer["vocab"].items()} | {0: "<|endoftext|>"}
    writer.add_token_list([words[id] for id in range(config["vocab_size"])])
    kinds = [gguf.TokenType.CONTROL if id == 0 else gguf.TokenType.NORMAL for id in range(config["vocab_size"])]
    writer.add_token_types(kinds)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["merges"]]
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)

    def add(name, source):
        bits, is_bf16 = tensor(source)
        if bits.ndim == 1:
            wide = (bits.astype(np.uint32) << 16).view(np.float32) if is_bf16 else bits.view(np.float16)
            writer.add_tensor(name, wide.astype(np.float32))
        elif is_bf16:
            # As bytes: NumPy has no such numbers.
            rows = np.ascontiguousarray(bits).view(np.uint8)
            writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name, bits.view(np.float16))

    add("token_embd.weight", "model.embed_tokens.weight")
    add("output.weight", "lm_head.weight")
    # Bunny has none, and llama.cpp asks for it.
    writer.add_tensor("output.bias", np.zeros(config["vocab_size"], np.float32))
    names = {"attn_norm": "input_layernorm", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
    attention = {"attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "dense"}
    names |= {theirs: f"self_attn.{ours}" for theirs, ours in attention.items()}
    for kind in ("weight", "bias"):
        add(f"output_norm.{kind}", f"model.final_layernorm.{kind}")
        for number in range(config["num_hidden_layers"]):
            for theirs, ours in names.items():
                add(f"blk.{number}.{theirs}.{kind}", f"model.layers.{number}.{ours}.{kind}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def folder_and_gguf(template, folder, name, wants_gguf):
    """Paths of a model's folder and GGUF below `folder`, made where they are not there; the built-in model is its
    own folder, `template`."""
    model = template if name == "builtin" else folder / name
    if not (model / "config.json").exists():
        print(f"writing {model}", flush=True)
        write_folder(template, model)
    path = folder / f"{name}.gguf"
    if wants_gguf and not path.exists():
        print(f"writing {path}", flush=True)
        half = path.with_suffix(".part")
        write_gguf(model, half)
        half.rename(path)
    return model, path
