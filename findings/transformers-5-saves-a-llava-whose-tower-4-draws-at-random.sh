#!/bin/sh
# transformers 5.24.0 against 4.57.6 (torch 2.15.0).
#
# A LLaVA (LlavaForConditionalGeneration over SigLIP or CLIP) that 5 has saved has the older names for its
# language model and its projector, language_model.model.* and multi_modal_projector.*, and not for its
# tower: `vision_tower.vision_model.` has lost its second word. 4 opens the folder all the same, finds no
# tower in it, draws one at random, and answers from that; all it has to say is a warning in the log. The way
# back holds: 5 reads what 4 has saved, since it knows both names. Whoever writes such a folder for both
# writes the older names; whoever reads one takes either.
#
# Seen:
#   5.24.0 saved vision_tower.embeddings.patch_embedding.weight
#   5.24.0 opens it: 0 missing, the tower is what was saved
#   4.57.6 opens it: 53 missing, the tower is another
#
# Ends with 0 as long as this is so. (torch's wheel from the default index is large: some minutes.)
set -eu
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
python3 -m venv "$W/v"
"$W/v/bin/pip" install -q --disable-pip-version-check transformers==5.24.0 torch==2.15.0 safetensors==0.8.0 requests==2.32.3
"$W/v/bin/pip" install -q --disable-pip-version-check --no-deps --target "$W/four" \
    transformers==4.57.6 huggingface_hub==0.36.0 tokenizers==0.22.2
cat > "$W/write.py" <<'PY'
import sys, torch, transformers
from safetensors.torch import load_file
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig
torch.manual_seed(0)
small = dict(hidden_size=8, intermediate_size=16, num_attention_heads=2)
config = LlavaConfig(
    vision_config=SiglipVisionConfig(num_hidden_layers=3, image_size=28, patch_size=14, vision_use_head=False, **small),
    text_config=LlamaConfig(vocab_size=32, num_hidden_layers=1, num_key_value_heads=2, **small), image_token_index=31)
LlavaForConditionalGeneration(config).save_pretrained(sys.argv[1])
names = load_file(sys.argv[1] + "/model.safetensors")
print(transformers.__version__, "saved", *[name for name in names if name.endswith("patch_embedding.weight")])
PY
cat > "$W/read.py" <<'PY'
import sys, torch, transformers
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration
from transformers.utils import logging
logging.set_verbosity_error()
model, report = LlavaForConditionalGeneration.from_pretrained(sys.argv[1], output_loading_info=True)
end = "patch_embedding.weight"
(saved,) = [tensor for name, tensor in load_file(sys.argv[1] + "/model.safetensors").items() if name.endswith(end)]
(found,) = [tensor for name, tensor in model.state_dict().items() if name.endswith(end)]
same = "what was saved" if torch.equal(saved, found) else "another"
print(transformers.__version__, f"opens it: {len(report['missing_keys'])} missing, the tower is {same}")
PY
{
    "$W/v/bin/python" "$W/write.py" "$W/llava"
    "$W/v/bin/python" "$W/read.py" "$W/llava"
    PYTHONPATH="$W/four" "$W/v/bin/python" "$W/read.py" "$W/llava"
} 2> "$W/errors" | tee "$W/seen"
cat > "$W/expected" <<'TXT'
5.24.0 saved vision_tower.embeddings.patch_embedding.weight
5.24.0 opens it: 0 missing, the tower is what was saved
4.57.6 opens it: 53 missing, the tower is another
TXT
cmp "$W/seen" "$W/expected" || { cat "$W/errors"; exit 1; }
