#!/usr/bin/env bash
# Two GPUs of one machine, a learner each, over NCCL. Give a recipe and options as arguments:
#   launch/two_gpus.sh cifar10 --data.root ~/data
# A rank that dies is started again, up to RESTARTS times, and continues from what was saved.
set -euo pipefail
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0,1}
exec zipper-launch --standalone --nproc_per_node=2 --max-restarts="${RESTARTS:-3}" \
    -m zipper_dist.train "$@"
