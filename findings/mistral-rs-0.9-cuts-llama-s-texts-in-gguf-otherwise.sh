#!/bin/sh
# mistralrs 0.9.5 (PyPI) on a GGUF of gguf 0.19.0, against sentencepiece 0.2.1 (protobuf 7.36.2).
#
# Of a GGUF whose `tokenizer.ggml.model` is `llama`, tokens and scores are SentencePiece's of type BPE: a score says
# which of two neighbours are put together first, as llama.cpp does. mistral.rs takes the same scores for those of a
# Unigram model (its log says `kind: Unigram`), and looks for the cut with the best sum. Sums of such scores mean
# nothing, and most texts fall into other tokens than in training; the model answers, only worse, and nothing is
# said.
#
# Seen (tokens of a text without the one that begins it; a tiny model of random weights):
#   the cat sat on the mat      sentencepiece _the|_cat|_sat|_on|_the|_mat   mistral.rs _the|_c|at|_s|at|_on|_the|_m|at
#   they chatted together       sentencepiece _they|_chatted|_together   mistral.rs _they|_c|hat|ted|_together
#   the other hat and another   sentencepiece _the|_other|_hat|_and|_another   mistral.rs _the|_o|ther|_hat|_and|_ano|ther
#
# Ends with 0 as long as this is so.
set -eu
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
cat > "$W/look.py" <<'PY'
import sys
import gguf, mistralrs, numpy, sentencepiece
folder = sys.argv[1]
words = "the cat sat on the mat and the other cat sat on another mat with that hat then they chatted together".split()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([" ".join(words[at:] + words[:at]) for at in range(len(words))] * 20),
    model_prefix=folder + "/m", model_type="bpe", vocab_size=320, byte_fallback=True, hard_vocab_limit=False,
    normalization_rule_name="identity", minloglevel=2)
pieces = sentencepiece.SentencePieceProcessor(model_file=folder + "/m.model")
count, width, hidden = pieces.vocab_size(), 32, 64
file = gguf.GGUFWriter(folder + "/m.gguf", "llama")
file.add_context_length(512); file.add_embedding_length(width); file.add_block_count(1)
file.add_feed_forward_length(hidden); file.add_head_count(2); file.add_head_count_kv(2)
file.add_layer_norm_rms_eps(1e-5); file.add_rope_dimension_count(width // 2); file.add_vocab_size(count)
file.add_tokenizer_model("llama")
file.add_token_list([pieces.id_to_piece(at).encode() for at in range(count)])
file.add_token_scores([pieces.get_score(at) for at in range(count)])
kind = lambda at: 2 if pieces.is_unknown(at) else 3 if pieces.is_control(at) else 6 if pieces.is_byte(at) else 1
file.add_token_types([kind(at) for at in range(count)])
file.add_bos_token_id(1); file.add_eos_token_id(2); file.add_unk_token_id(0); file.add_add_bos_token(False)
random = numpy.random.default_rng(0)
draw = lambda *shape: random.normal(0, 0.02, shape).astype(numpy.float32)
file.add_tensor("token_embd.weight", draw(count, width)); file.add_tensor("output.weight", draw(count, width))
file.add_tensor("output_norm.weight", numpy.ones(width, numpy.float32))
for name, shape in [("attn_q", (width, width)), ("attn_k", (width, width)), ("attn_v", (width, width)),
                    ("attn_output", (width, width)), ("ffn_gate", (hidden, width)), ("ffn_up", (hidden, width)),
                    ("ffn_down", (width, hidden))]:
    file.add_tensor(f"blk.0.{name}.weight", draw(*shape))
for name in ["attn_norm", "ffn_norm"]:
    file.add_tensor(f"blk.0.{name}.weight", numpy.ones(width, numpy.float32))
file.write_header_to_file(); file.write_kv_data_to_file(); file.write_tensors_to_file(); file.close()
runner = mistralrs.Runner(which=mistralrs.Which.GGUF(folder, "m.gguf", dtype=mistralrs.ModelDType.F32))
for text in ["the cat sat on the mat", "they chatted together", "the other hat and another"]:
    there = runner.tokenize_text(text, False, False)
    assert all(0 <= token < count for token in there)
    show = lambda ids: "|".join(pieces.id_to_piece(at) for at in ids).replace("\u2581", "_")
    print(f"{text:27} sentencepiece {show(pieces.encode(text))}   mistral.rs {show(there)}")
PY
python3 -m venv "$W/venv"
"$W/venv/bin/pip" install -q --disable-pip-version-check mistralrs==0.9.5 gguf==0.19.0 sentencepiece==0.2.1 protobuf==7.36.2
"$W/venv/bin/python" "$W/look.py" "$W" 2> "$W/errors" | grep sentencepiece | tee "$W/seen"
cat > "$W/expected" <<'TXT'
the cat sat on the mat      sentencepiece _the|_cat|_sat|_on|_the|_mat   mistral.rs _the|_c|at|_s|at|_on|_the|_m|at
they chatted together       sentencepiece _they|_chatted|_together   mistral.rs _they|_c|hat|ted|_together
the other hat and another   sentencepiece _the|_other|_hat|_and|_another   mistral.rs _the|_o|ther|_hat|_and|_ano|ther
TXT
cmp "$W/seen" "$W/expected" || { cat "$W/errors"; exit 1; }
