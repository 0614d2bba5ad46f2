#!/usr/bin/env bash
# Makes a small Bunny from nothing but a seed: draws the world, selects captions as the paper does,
# trains all four stages, merges, and examines the result, with its own picture and with another's.
# What is done is not done again: training that was stopped goes on where it was.
#
#   cargo build --release && recipes/picture-world.sh [more for `bunny-cli train`]
#   cargo build --release --features cuda && CUDA=1 recipes/picture-world.sh
#
# BUNNY names another bunny-cli; PAIRS and CONVERSATIONS make a world of another size. With CUDA steps
# are larger, since a model this small leaves a GPU idle between them, the last stage learns from three
# times as many conversations, and AdamW moves all: Muon has not been tried there. A run that two cores
# have begun may go on there with its next stage, since a stage that is done is not looked at again; a
# stage itself goes on only as it began.
set -euo pipefail
cd "$(dirname "$0")/.."
bunny=${BUNNY:-target/release/bunny-cli}
world=data/picture-world
run=runs/picture-world
conversations=280000
[ -z "${CUDA:-}" ] || conversations=560000

if [ ! -e "$world/manifest.json" ]; then
    "$bunny" data synth --out "$world" --pairs "${PAIRS:-100000}" \
        --conversations "${CONVERSATIONS:-$conversations}" --texts 100000 --questions 2200 --seed 1
fi
# Three tenths of the captions are wrong or vague, and fit their pictures least. Those that fit best
# are left out too, as in the paper. The pictures' places in their clusters tell nothing here.
if [ ! -e "$world/coreset/pretrain.json" ]; then
    "$bunny" data coreset --embeddings "$world/embeddings" --images "$world/pretrain/images" \
        --out "$world/coreset" --clusters 16 --score-window 5-60 --centroid-window none
fi
how=(--ranks 2 --dtype bf16)
if [ -n "${CUDA:-}" ]; then
    how=(--backend cuda --dtype bf16 --set dataloader_num_workers=14
        --set language.per_device_train_batch_size=32 --set language.gradient_accumulation_steps=1
        --set language.max_steps=2000
        --set contrastive.optim=adamw --set finetune.optim=adamw
        --set contrastive.per_device_train_batch_size=128 --set contrastive.max_steps=2000
        --set pretrain.per_device_train_batch_size=64 --set pretrain.max_steps=200
        --set finetune.per_device_train_batch_size=128 --set finetune.gradient_accumulation_steps=1
        --set finetune.max_steps=12000 --set finetune.learning_rate=1.2e-3
        --set finetune.mm_projector_lr=1.2e-3 --set finetune.mm_vision_tower_lr=1.2e-3)
fi
for stage in language contrastive pretrain finetune; do
    [ -e "$run/$stage/config.json" ] ||
        "$bunny" train recipes/picture-world.toml --stage "$stage" --out "$run" --resume "${how[@]}" "$@"
done
"$bunny" merge --model "$run/finetune" --out "$run/merged" --dtype f16
"$bunny" eval picture-world --model "$run/merged" --data "$world" --out "$run/answers.jsonl" --force
"$bunny" eval picture-world --model "$run/merged" --data "$world" --blind
