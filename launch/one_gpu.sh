#!/usr/bin/env bash
# One GPU, one process, both learners in turn. Give a recipe and options as arguments:
#   launch/one_gpu.sh cifar10 --data.root ~/data
set -euo pipefail
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
exec zipper-train "$@"
