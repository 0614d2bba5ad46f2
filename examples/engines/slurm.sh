#!/usr/bin/env bash
# A coreset on a Slurm cluster whose nodes share a file system: an array of jobs a stage.
#   examples/engines/slurm.sh --embeddings /lustre/laion --out /lustre/coreset --sample 2000000
# SBATCH is how an array is submitted and waited for; a part that ends with 75 is launched again.
set -euo pipefail
SBATCH=${SBATCH:-sbatch --wait --quiet --cpus-per-task=16 --mem=32G --time=4:00:00}
# The folders alone: a part needs to know no other option.
folders() { while (($#)); do case $1 in --embeddings | --out | --work) printf '%q %q ' "$1" "$2" ;; esac; shift; done; }
part=$(mktemp -p . part-XXXXXX.sh)
trap 'rm -f "$part"' EXIT
for ((round = 0; round < 1000; round++)); do
    planned=$(bunny-cli data coreset plan-parts "$@")
    [[ -n $planned ]] || break
    read -r stage parts <<<"$planned"
    printf '#!/bin/sh\nexec bunny-cli data coreset run-part %s --stage %s --part "$SLURM_ARRAY_TASK_ID"\n' \
        "$(folders "$@")" "$stage" >"$part"
    # An array with a failed part fails as a whole; what is missing of it is planned again.
    $SBATCH --array="0-$((parts - 1))%64" "$part" || echo "some parts of $stage failed, again" >&2
done
bunny-cli data coreset finish "$@"
