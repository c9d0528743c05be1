#!/usr/bin/env bash
# One GPU, one process, all learners in turn; CUDA_VISIBLE_DEVICES says which GPU (0). Usage:
#   launch/one_gpu.sh RECIPE [OPTION …]     launch/one_gpu.sh cifar10 --data.root ~/data
set -euo pipefail
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
exec zipper-train "$@"
