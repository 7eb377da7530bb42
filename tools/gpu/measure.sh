#!/usr/bin/env bash
# What is to be run where there is an NVIDIA GPU: parity with the CPU, with and without fused kernels, and speed.
# usage: tools/gpu/measure.sh MODEL_DIR   (a Qwen3 checkpoint in bf16, for instance of tools/random-checkpoint)
set -euo pipefail
cd "$(dirname "$0")/../.."
model=${1:?a checkpoint folder}
prompt=$(seq -s, 10 2057)

for features in cuda flash-attn; do
    echo "== parity, $features"
    cargo test --release -p lb-tests --features "$features" -- --ignored model::cuda
    echo "== speed, $features: 2,048 tokens read, 128 generated; the first run warms up"
    cargo build --release --features "$features" --example generate
    for run in 1 2 3; do
        target/release/examples/generate --model "$model" --device cuda --dtype bf16 --tokens "$prompt" \
            --max-new-tokens 128 >/dev/null
    done
done
