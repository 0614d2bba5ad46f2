#!/usr/bin/env bash
# Two claims of the paper in miniature, on the small world, after recipes/picture-world.sh:
#
#   selection   the three-step coreset against as many pairs drawn at random from the same noisy
#               ones: a tower from nothing, then a projector, judged by their losses on right
#               captions of new pictures
#   text        LoRA against tuning the whole language model, on conversations with pictures alone:
#               answers about pictures, and what is left of those without
#
#   recipes/picture-world-claims.sh
#
# Each for the seeds in SEEDS, minutes a run; what has been done is not done again. The tables are
# in runs/picture-world-claims/*.tsv.
set -euo pipefail
cd "$(dirname "$0")/.."
bunny=${BUNNY:-target/release/bunny-cli}
seeds=${SEEDS:-1 2 3}
pairs=${PAIRS:-20000}
world=data/picture-world
clean=data/picture-world-clean
made=runs/picture-world
out=runs/picture-world-claims
mkdir -p "$out/images"

# Right captions of other pictures: those of another world whose scores are in the middle.
if [ ! -e "$clean/manifest.json" ]; then
    "$bunny" data synth --out "$clean" --pairs 5000 --conversations 1 --questions 11 --seed 2
fi
if [ ! -e "$clean/coreset/pretrain.json" ]; then
    "$bunny" data coreset --embeddings "$clean/embeddings" --images "$clean/pretrain/images" \
        --out "$clean/coreset" --clusters 4 --score-window 15-60 --centroid-window none
fi
# Both worlds name their pictures alike: each gets a folder of its own.
ln -sfn "$PWD/$world/pretrain/images" "$out/images/world"
ln -sfn "$PWD/$clean/pretrain/images" "$out/images/clean"

# mix OUT SEED 'the keys of its one source'
mix() {
    if [ ! -e "$1" ]; then
        printf 'format_version = 1\nname = "part"\nseed = %s\n[[source]]\nname = "one"\n%s\n' \
            "$2" "$3" > "$out/mix.toml"
        "$bunny" data mix "$out/mix.toml" --data data --out "$1"
    fi
}

# train FOLDER STAGE [more for `bunny-cli train`]
train() {
    local folder=$1 stage=$2
    shift 2
    "$bunny" train recipes/picture-world.toml --stage "$stage" --out "$folder" --resume \
        --set save_steps=1000000 "$@"
}

# The last loss of a stage on the records kept from it.
held_out_loss() { grep -o '"eval_loss":[0-9.]*' "$1/metrics.jsonl" | tail -n 1 | cut -d: -f2; }

# right FOLDER TYPE: right answers of a type of questions, in per cent.
right() { awk -v type="$2" '$1 == type { print $4 }' "$1/examination.txt"; }

mix "$out/clean.json" 0 \
    'path = "picture-world-clean/coreset/pretrain.json"
     image_root = "clean"
     take = { first = 1000 }'
printf 'seed\tselection\ttower, loss\tprojector, loss\n' > "$out/selection.tsv"
for seed in $seeds; do
    for selection in random coreset; do
        case $selection in
            random) path=picture-world/pretrain.json ;;
            coreset) path=picture-world/coreset/pretrain.json ;;
        esac
        folder=$out/$selection-$seed
        mix "$folder.json" "$seed" \
            "path = \"$path\"
             image_root = \"world\"
             take = { random = $pairs }"
        for stage in contrastive pretrain; do
            train "$folder" "$stage" --set "seed=$seed" --set max_steps=600 \
                --set "pretrain.model_name_or_path=$made/language" \
                --set "data_path=$folder.json" --set "eval_data_path=$out/clean.json" \
                --set "image_folder=$out/images"
        done
        printf '%s\t%s\t%s\t%s\n' "$seed" "$selection" "$(held_out_loss "$folder/contrastive")" \
            "$(held_out_loss "$folder/pretrain")" >> "$out/selection.tsv"
    done
done

mix "$out/with-pictures.json" 0 \
    'path = "picture-world/finetune.json"
     filter = { image = true }
     take = { first = 30000 }'
# examine FOLDER [what names the model]
examine() {
    local folder=$1
    shift
    if [ ! -e "$folder/examination.txt" ]; then
        "$bunny" eval picture-world --data "$world" "$@" > "$folder/examination.part"
        mv "$folder/examination.part" "$folder/examination.txt"
    fi
}
printf 'seed\ttuned\tall questions\twithout a picture\n' > "$out/text.tsv"
mkdir -p "$out/before"
examine "$out/before" --model "$made/pretrain" --model-base "$made/language" \
    --vision-tower "$made/contrastive"
printf -- '-\tnothing\t%s\t%s\n' "$(right "$out/before" overall)" "$(right "$out/before" text)" \
    >> "$out/text.tsv"
for seed in $seeds; do
    for tuned in full lora; do
        folder=$out/$tuned-$seed
        lora=false
        if [ "$tuned" = lora ]; then lora=true; fi
        train "$folder" finetune --set "seed=$seed" --set max_steps=1000 \
            --set "lora_enable=$lora" --set lora_r=32 --set lora_alpha=64 \
            --set "finetune.model_name_or_path=$made/language" \
            --set "finetune.vision_tower=$made/contrastive" \
            --set "finetune.pretrain_mm_mlp_adapter=$made/pretrain/mm_projector.safetensors" \
            --set "data_path=$out/with-pictures.json"
        examine "$folder" --model "$folder/finetune"
        printf '%s\t%s\t%s\t%s\n' "$seed" "$tuned" "$(right "$folder" overall)" \
            "$(right "$folder" text)" >> "$out/text.tsv"
    done
done
cat "$out/selection.tsv" "$out/text.tsv"
