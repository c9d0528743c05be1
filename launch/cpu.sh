#!/usr/bin/env bash
# The cores of one machine, over gloo: RANKS processes, or one for each core. Usage:
#   launch/cpu.sh RECIPE [OPTION …]     RANKS=2 launch/cpu.sh mnist
# A rank that dies is started again, up to RESTARTS times (3), and continues from what was saved.
set -euo pipefail
# torchrun kills the ranks so long after it has told them to end [seconds]; saving may take a while.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-100}
cores=$(env -u OMP_NUM_THREADS nproc) # which would say that number otherwise
exec zipper-launch --standalone --nproc_per_node="${RANKS:-$cores}" \
    --max-restarts="${RESTARTS:-3}" -m zipper_dist.train "$@" --device cpu
