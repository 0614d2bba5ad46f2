#!/usr/bin/env bash
# The paper's Table 2: two vision towers by three language models, each trained, merged and evaluated
# one after another, and the table beside the published figures. What is done is not done again:
# a stage, a merge and a benchmark that were stopped go on where they were.
#
#   cargo build --release --features cuda && recipes/table-2.sh --backend cuda --dtype bf16
#   TINY=1 recipes/table-2.sh    two towers by two language models, tiny and random, in a minute or two:
#                                to see how it goes, not for what comes of it
#   WORLD=1 recipes/table-2.sh   two towers by two language models made from nothing on the small world
#
# What is said on the command line goes to `bunny-cli train` and `eval run`. EVAL is the folder of
# benchmarks (`bunny-cli eval list` says what belongs there), BENCHMARKS names some of them, BUNNY
# another bunny-cli, OUT another folder; ONLY trains some combinations, such as "phi-2-siglip"; with
# DRY_RUN=1 the plan is all.
set -euo pipefail
cd "$(dirname "$0")/.."
bunny=${BUNNY:-target/release/bunny-cli}
[ -z "${WORLD:-}" ] || exec recipes/table-2-world.sh "$@"

if [ -n "${TINY:-}" ]; then
    out=${OUT:-runs/table-2-tiny}
    eval_data=${EVAL:-bunny-eval/tests/fixtures}
    combinations=(phi-1.5-eva stablelm-2-eva phi-1.5-siglip stablelm-2-siglip)
    benchmarks=${BENCHMARKS:-mme seed-bench mmmu-val gqa scienceqa pope}
else
    out=${OUT:-runs/table-2}
    eval_data=${EVAL:-data/eval}
    combinations=(phi-1.5-eva stablelm-2-eva phi-2-eva phi-1.5-siglip stablelm-2-siglip phi-2-siglip)
    benchmarks=${BENCHMARKS:-}
fi
read -r -a combinations <<< "${ONLY:-${combinations[*]}}"
mkdir -p "$out"

language_of() { echo "${1%-*}"; }
tower_of() { echo "${1##*-}"; }

# What `bunny-cli train` is given for a combination.
recipe() {
    if [ -z "${TINY:-}" ]; then
        echo "recipes/bunny-$1.toml"
        return
    fi
    local models=tests/fixtures/models language tower
    case $(language_of "$1") in
    phi-1.5) language=$models/phi-siglip-lora/base ;;
    stablelm-2) language=$models/stablelm-siglip-lora/base ;;
    esac
    case $(tower_of "$1") in
    eva) tower=$models/phi-eva-pretrained/eva-clip-tower ;;
    siglip) tower=$models/phi-siglip-lora/siglip-tower ;;
    esac
    echo "recipes/tiny.toml --set model_name_or_path=$language --set vision_tower=$tower"
}

# The benchmarks that are there, unless named.
if [ -z "$benchmarks" ]; then
    for name in mme mmbench-test mmbench-dev seed-bench mmmu-val mmmu-test vqav2 gqa scienceqa pope; do
        if "$bunny" eval check "$name" --data "$eval_data" > "$out/check-$name.log" 2>&1; then
            benchmarks+=" $name"
        else
            echo "$name is left out: $(grep -m 1 -E 'problem: |error: ' "$out/check-$name.log" | sed 's/^ *[a-z]*: //')"
        fi
    done
fi
read -r -a benchmarks <<< "$benchmarks"

# The plan: how long rows of 768 positions take at the true size, and so all of both stages; captions
# are shorter.
number() { grep -o "\"$1\":[0-9.e+-]*" | head -n 1 | cut -d : -f 2; }
echo "plan: ${combinations[*]}; then ${benchmarks[*]:-no benchmark}"
if [ -z "${TINY:-}" ]; then
    if [ ! -e "$out/plan.txt" ]; then
        for one in "${combinations[@]}"; do
            for stage in pretrain:2000000 finetune:695000; do
                step=$("$bunny" bench train --arch "bunny-$one" --stage "${stage%:*}" --batch 8 \
                    --format json "$@" | number train_step_seconds)
                awk -v one="$one" -v stage="${stage%:*}" -v rows="${stage#*:}" -v step="$step" \
                    'BEGIN { printf "%-18s %-9s %8.1f hours\n", one, stage, rows / 8 * step / 3600 }'
            done
        done | tee "$out/plan.part"
        mv "$out/plan.part" "$out/plan.txt"
    else
        cat "$out/plan.txt"
    fi
    awk '{ sum += $3 } END { printf "all: %.1f hours of training on one device, then the benchmarks\n", sum }' "$out/plan.txt"
fi
[ -z "${DRY_RUN:-}" ] || exit 0

for one in "${combinations[@]}"; do
    run=$out/$one
    if [ ! -e "$run/merged/config.json" ]; then
        read -r -a given <<< "$(recipe "$one")"
        "$bunny" train "${given[@]}" --out "$run" --resume "$@"
        "$bunny" merge --model "$run/finetune" --out "$run/merged"
    fi
    if [ ${#benchmarks[@]} -gt 0 ]; then
        "$bunny" eval run "${benchmarks[@]}" --data "$eval_data" --model "$run/merged" \
            --out "$out/results/$one" --name "$one" --tower "$(tower_of "$one")" \
            --language-model "$(language_of "$one")" "$@" > "$run/eval.log"
    fi
done

[ ${#benchmarks[@]} -gt 0 ] || exit 0
for form in markdown latex html json; do
    "$bunny" eval table "$out/results" --table 2 --format "$form" --force \
        --out "$out/table-2.$form" > "$out/table.log"
done
cat "$out/table-2.markdown"
