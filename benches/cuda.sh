#!/usr/bin/env bash
# What holds and how fast it is on a machine with an NVIDIA GPU, which needs no Rust:
#
#   CUDARC_CUDA_VERSION=13000 cargo build --release -p bunny-cli --features cuda
#   CUDARC_CUDA_VERSION=13000 cargo test --release -p bunny-core -p bunny-cli \
#       --features bunny-cli/cuda --no-run --lib --test parity
#   benches/cuda.sh BUNNY-CLI TEST-BINARY...
#
# Test binaries read their fixtures where they were built: link this folder there. The first steps
# compile kernels, for seconds in all; LOGS (./cuda-logs) keeps everything that is printed. PEERS=1 runs
# transformers beside bunny, from the Python that is active.
set -uo pipefail
cd "$(dirname "$0")/.."
bunny=$1
shift
logs=${LOGS:-cuda-logs}
mkdir -p "$logs"

# A step's name, its limit in seconds, and its command; failures are told, and do not end the rest.
step() {
    local name=$1 limit=$2 started=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$logs/$name.log" 2>&1
    echo "== $name: status $?, $((SECONDS - started)) s"
    tail -n 14 "$logs/$name.log"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
# A name that no longer says `cuda` must not pass for a test that ran.
ran() {
    awk '/^test result: ok/ { sum += $4 } END { print sum + 0 }' "$@"
}
for tests in "$@"; do
    name=$(basename "$tests")
    step "$name" 180 "$tests" cuda --nocapture --test-threads 1
    echo "== $name: $(ran "$logs/$name.log") tests ran and hold"
    (( $(ran "$logs/$name.log") > 0 )) || { echo "nothing of $name was tried on the GPU" >&2; failed=1; }
done
step inference 120 "$bunny" bench --backend cuda --dtype bf16
# The dense bf16 peak of an H100 or H200.
training=(bench train --backend cuda --dtype bf16 --peak-tflops 989)
for batch in 1 8 16; do
    step "training-$batch" 120 "$bunny" "${training[@]}" --batch "$batch"
done
step training-8-kept 120 "$bunny" "${training[@]}" --batch 8 --no-gradient-checkpointing
if [ -n "${PEERS:-}" ]; then
    step peers-inference 120 python3 benches/peers/inference.py --device cuda --dtype bf16
    peer=(python3 benches/peers/training.py --device cuda --dtype bf16 --batch 8)
    step peers-training 120 "${peer[@]}"
    step peers-training-kept 120 "${peer[@]}" --no-gradient-checkpointing
    step hopper-kernels 120 python3 benches/peers/hopper_kernels.py
fi
exit "${failed:-0}"
