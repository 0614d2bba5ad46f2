#!/usr/bin/env bash
# Three of the paper's claims in miniature, on the world and the parts that `picture-world.sh` has made.
#
# 1. Data: the projector learns from as many pairs, drawn at random, left by the coreset's three steps
#    with the paper's windows, or with those of this world's recipe. Told is its loss on the right
#    captions of a world that no run has seen.
# 2. LoRA: the language model learns from conversations about pictures alone, by adapters or in full.
#    Told is what it has learnt to see, and what is left of what it knew without pictures.
# 3. Text: the same, for as many steps, with conversations without a picture mixed in: a tenth of the
#    world's usual share, which is one in ten as in the paper's own mix, or all of it.
#
# Three seeds each (SEEDS names others); a run that is there is not repeated. BUNNY names another
# bunny-cli.
set -euo pipefail
cd "$(dirname "$0")/.."
bunny=${BUNNY:-target/release/bunny-cli}
world=data/picture-world
run=runs/picture-world
claims=runs/picture-world-claims
read -r -a seeds <<< "${SEEDS:-1 2 3}"
mkdir -p "$claims"

# Right captions of a world of another seed.
held=$claims/held
if [ ! -e "$held/right.jsonl" ]; then
    "$bunny" data synth --out "$held" --pairs 4000 --conversations 1 --texts 1 --questions 11 --seed 2
    # Truth and records have a line a pair, in one order; the records stand between brackets.
    paste -d '\t' "$held/pretrain_truth.jsonl" <(grep '^{' "$held/pretrain.json") |
        grep '"kind":"right"' | cut -f 2 | sed 's/,$//; s#"image":"#&held/#' > "$held/right.jsonl"
fi
# A stage has one folder of pictures.
ln -sfn "$(realpath "$held/pretrain/images")" "$world/pretrain/images/held"

# A folder for a run that starts from what the recipe's first stages made.
begin() {
    mkdir -p "$1"
    for stage in "${@:2}"; do
        [ -e "$1/$stage" ] || ln -s "$(realpath "$run/$stage")" "$1/$stage"
    done
}

pairs=${PAIRS:-2000}
select_pairs() { # how seed out
    local how=(--clusters 16)
    case $1 in
    random) how=(--clusters 1 --threshold 0.9999 --score-window none --centroid-window none) ;;
    world) how+=(--score-window 5-60 --centroid-window none) ;;
    esac
    "$bunny" data coreset --embeddings "$world/embeddings" --images "$world/pretrain/images" \
        --out "$3" "${how[@]}" --sample "$pairs" --seed "$2" > "$3.log"
}
for seed in "${seeds[@]}"; do
    for how in random paper world; do
        out=$claims/data-$how-$seed
        [ -e "$out/done" ] && continue
        [ -e "$out-pairs/pretrain.json" ] || select_pairs "$how" "$seed" "$out-pairs"
        begin "$out" language contrastive
        "$bunny" train recipes/picture-world.toml --out "$out" --resume --ranks 2 --dtype bf16 \
            --stage pretrain --set seed="$seed" \
            --set pretrain.data_path="$out-pairs/pretrain.json" \
            --set pretrain.max_steps=250 --set pretrain.eval_steps=250 \
            --set pretrain.eval_data_path="$held/right.jsonl" > "$out.log" 2>&1
        touch "$out/done"
    done
done

# Conversations with a picture, and a share of those without: one in ten, drawn through all of them.
share() { # which
    local mix=$claims/$1.jsonl
    [ -e "$mix" ] || sed -n 's/,$//; /^{/p' "$world/finetune.json" | awk -v share="$1" '
        /"image"/ || share == "usual" || (share == "tenth" && ++without % 10 == 0)' > "$mix.part"
    [ -e "$mix" ] || mv "$mix.part" "$mix"
    echo "$mix"
}
for seed in "${seeds[@]}"; do
    for share in none tenth usual; do
        for how in lora full; do
            out=$claims/tuned-$how-$share-$seed
            [ -e "$out/done" ] && continue
            begin "$out" language contrastive pretrain
            rates=(--set finetune.learning_rate=1e-3)
            [ $how = lora ] && rates=(--set finetune.lora_enable=true --set finetune.lora_r=32
                --set finetune.lora_alpha=64 --set finetune.learning_rate=2e-3)
            "$bunny" train recipes/picture-world.toml --out "$out" --resume --ranks 2 --dtype bf16 \
                --stage finetune --set seed="$seed" --set finetune.data_path="$(share "$share")" \
                --set finetune.max_steps=400 --set finetune.optim=adamw \
                --set finetune.per_device_train_batch_size=2 "${rates[@]}" > "$out.log" 2>&1
            "$bunny" merge --model "$out/finetune" --out "$out/merged" > /dev/null
            "$bunny" eval picture-world --model "$out/merged" --data "$world" --format json > "$out/exam.json"
            touch "$out/done"
        done
    done
done

number() { grep -o "\"$1\":[-0-9.e]*" | tail -n 1 | cut -d : -f 2; }
echo "claim  how     seed  figure"
for how in random paper world; do
    for seed in "${seeds[@]}"; do
        echo "data   $how  $seed  loss $(number eval_loss < "$claims/data-$how-$seed/pretrain/metrics.jsonl")"
    done
done
for share in none tenth usual; do
    for how in lora full; do
        for seed in "${seeds[@]}"; do
            echo "tuned  $how  $share  $seed  $(cat "$claims/tuned-$how-$share-$seed/exam.json")"
        done
    done
done
