#!/usr/bin/env bash
# Table 2 in miniature, as `WORLD=1 recipes/table-2.sh`: two vision towers by two language models, all
# made from nothing on the small world, trained as Bunnies with equal steps and examined. The towers
# see a picture in 16 or 64 patches, the language models have 0.5 or 1.6 million parameters. What is
# done is not done again. SHARE of the steps of `recipes/picture-world.toml` is taken, in percent.
set -euo pipefail
cd "$(dirname "$0")/.."
bunny=${BUNNY:-target/release/bunny-cli}
world=${DATA:-data/picture-world}
out=${OUT:-runs/table-2-world}
share=${SHARE:-10}
languages=(narrow wide)
towers=(coarse fine)
more=("$@") # for every `bunny-cli train`
mkdir -p "$out"

if [ ! -e "$world/manifest.json" ]; then
    "$bunny" data synth --out "$world" --pairs "${PAIRS:-100000}" \
        --conversations "${CONVERSATIONS:-280000}" --texts 100000 --questions 2200 --seed 1
fi
if [ ! -e "$world/coreset/pretrain.json" ]; then
    "$bunny" data coreset --embeddings "$world/embeddings" --images "$world/pretrain/images" \
        --out "$world/coreset" --clusters 16 --score-window 5-60 --centroid-window none
fi

steps() { echo $(($1 * share / 100 > 0 ? $1 * share / 100 : 1)); }
train() { # run stage, then keys
    [ -e "$1/$2/config.json" ] || "$bunny" train recipes/picture-world.toml --stage "$2" --out "$1" --resume \
        --ranks 2 --dtype bf16 --set language.data_path="$world/texts.jsonl" \
        --set contrastive.data_path="$world/coreset/pretrain.json" --set pretrain.data_path="$world/coreset/pretrain.json" \
        --set contrastive.image_folder="$world/pretrain/images" --set pretrain.image_folder="$world/pretrain/images" \
        --set finetune.data_path="$world/finetune.json" --set finetune.image_folder="$world/finetune/images" \
        "${@:3}" "${more[@]}" >> "$1.log" 2>&1
}

for language in "${languages[@]}"; do
    sizes=()
    [ "$language" = wide ] || sizes=(--set language.model.hidden_size=96 --set language.model.intermediate_size=320
        --set language.model.num_attention_heads=3 --set language.model.num_hidden_layers=4)
    train "$out/$language" language --set language.max_steps="$(steps 6000)" "${sizes[@]}"
done
for tower in "${towers[@]}"; do
    sizes=()
    [ "$tower" = fine ] || sizes=(--set contrastive.vision.patch_size=28)
    train "$out/$tower" contrastive --set contrastive.max_steps="$(steps 2000)" \
        --set contrastive.tokenizer="$out/wide/language" "${sizes[@]}"
done

percent() { # right of all 2,200 questions
    grep -o '"overall":{[^}]*}' "$1" | grep -o '"accuracy":[0-9.e-]*' | awk -F : '{ printf "%.1f", 100 * $2 }'
}
table="| right of all questions, % |$(printf ' %s |' "${languages[@]}")"$'\n'"|---|---|---|"
for tower in "${towers[@]}"; do
    row="| $tower |"
    for language in "${languages[@]}"; do
        run=$out/$tower-$language
        mkdir -p "$run"
        [ -e "$run/language" ] || ln -s "$(realpath "$out/$language/language")" "$run/language"
        [ -e "$run/contrastive" ] || ln -s "$(realpath "$out/$tower/contrastive")" "$run/contrastive"
        train "$run" pretrain --set pretrain.max_steps="$(steps 400)"
        train "$run" finetune --set finetune.max_steps="$(steps 16000)"
        [ -e "$run/merged/config.json" ] || "$bunny" merge --model "$run/finetune" --out "$run/merged" >> "$run.log"
        [ -e "$run/exam.json" ] || "$bunny" eval picture-world --model "$run/merged" --data "$world" \
            --format json > "$run/exam.part"
        [ -e "$run/exam.json" ] || mv "$run/exam.part" "$run/exam.json"
        row+=" $(percent "$run/exam.json") |"
    done
    table+=$'\n'"$row"
done
echo "$table" | tee "$out/table-2.markdown"
