#!/usr/bin/env bash
# All GPUs of one machine, over NCCL: RANKS processes, or one for each GPU that is visible. Usage:
#   launch/all_gpus.sh RECIPE [OPTION …]     launch/all_gpus.sh cifar10 --data.root ~/data
# A rank that dies is started again, up to RESTARTS times (3), and continues from what was saved.
set -euo pipefail
# torchrun kills the ranks so long after it has told them to end [seconds]; saving may take a while.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-100}
exec zipper-launch --standalone --nproc_per_node="${RANKS:-gpu}" --max-restarts="${RESTARTS:-3}" \
    -m zipper_dist.train "$@"
