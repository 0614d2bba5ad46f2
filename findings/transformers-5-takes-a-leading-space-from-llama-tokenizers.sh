#!/bin/sh
# transformers 4.57.6 (tokenizers 0.22.2) and 5.24.0 (tokenizers 0.23.1) on a lone tokenizer.model, against
# sentencepiece 0.2.1 (protobuf 7.36.2); no torch needed.
#
# A model of SentencePiece that keeps all spaces and puts one in front of a text, as Llama's does, knows " a"
# from "a". Class LlamaTokenizer of transformers 5 does not: it puts a space in front only where there is
# none, whatever `legacy` says, so both texts have the same ids and a leading space is lost. In 4 that is so
# for `legacy: false` with the fast tokenizer, and neither for the slow one nor for `legacy: true`. And where
# tokenizer_config.json says nothing of `legacy`, 4 takes true and 5 false: what stands behind a special token
# ("</s>b") has other ids in the two. No warning is shown by 5. A text that is tokenised in pieces (around
# pictures, turn by turn) meets both.
#
# Seen (ids of "a", " a" and "</s>b", as pieces):
#   sentencepiece            a: _a        space a: _ _a
#   4.57.6 legacy true       a: _a        space a: _ _a    end b: </s> _b
#   4.57.6 legacy false      a: _a        space a: _a      end b: </s> b
#   4.57.6 nothing said      a: _a        space a: _ _a    end b: </s> _b
#   5.24.0 legacy true       a: _a        space a: _a      end b: </s> _b
#   5.24.0 legacy false      a: _a        space a: _a      end b: </s> b
#   5.24.0 nothing said      a: _a        space a: _a      end b: </s> b
#
# Ends with 0 as long as this is so.
set -eu
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
export TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1
cat > "$W/train.py" <<'PY'
import json, os, sys, sentencepiece
folder = sys.argv[1]
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a b ab ba a a b b"] * 50), model_prefix=folder + "/m", model_type="bpe", vocab_size=266,
    byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, hard_vocab_limit=False,
    minloglevel=2)
for name, more in [("true", {"legacy": True}), ("false", {"legacy": False}), ("unsaid", {})]:
    os.makedirs(f"{folder}/{name}")
    os.link(folder + "/m.model", f"{folder}/{name}/tokenizer.model")
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
              "add_bos_token": False} | more
    json.dump(config, open(f"{folder}/{name}/tokenizer_config.json", "w"))
pieces = sentencepiece.SentencePieceProcessor(model_file=folder + "/m.model")
show = lambda text: " ".join(pieces.encode(text, out_type=str)).replace("\u2581", "_")
print(f"sentencepiece            a: {show('a'):9} space a: {show(' a')}")
PY
cat > "$W/read.py" <<'PY'
import sys, transformers
from transformers import AutoTokenizer
for name, said in [("true", "legacy true"), ("false", "legacy false"), ("unsaid", "nothing said")]:
    tokenizer = AutoTokenizer.from_pretrained(f"{sys.argv[1]}/{name}")
    show = lambda text: " ".join(tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])).replace("\u2581", "_")
    print(f"{transformers.__version__} {said:16}  a: {show('a'):9} space a: {show(' a'):7} end b: {show('</s>b')}")
PY
for version in 4.57.6 5.24.0; do
    python3 -m venv "$W/$version"
    "$W/$version/bin/pip" install -q --disable-pip-version-check "transformers==$version" sentencepiece==0.2.1 protobuf==7.36.2
done
{
    "$W/4.57.6/bin/python" "$W/train.py" "$W"
    "$W/4.57.6/bin/python" "$W/read.py" "$W"
    "$W/5.24.0/bin/python" "$W/read.py" "$W"
} 2> "$W/errors" | tee "$W/seen"
cat > "$W/expected" <<'TXT'
sentencepiece            a: _a        space a: _ _a
4.57.6 legacy true       a: _a        space a: _ _a    end b: </s> _b
4.57.6 legacy false      a: _a        space a: _a      end b: </s> b
4.57.6 nothing said      a: _a        space a: _ _a    end b: </s> _b
5.24.0 legacy true       a: _a        space a: _a      end b: </s> _b
5.24.0 legacy false      a: _a        space a: _a      end b: </s> b
5.24.0 nothing said      a: _a        space a: _a      end b: </s> b
TXT
cmp "$W/seen" "$W/expected" || { cat "$W/errors"; exit 1; }
