#!/usr/bin/env bash
# Two machines, a learner each. Start it on both, with the same HEAD (name of one of the two):
#   HEAD=node1 launch/two_nodes.sh cifar10 --data.root /shared/data --run-dir /shared/runs/cifar10
# The run directory should be one that both machines see; otherwise each keeps its own learner's
# checkpoints and weights, and the run has to be continued on the same machines in the same order.
# When a rank dies or a machine is cut off, both start again, up to RESTARTS times, once they meet.
set -euo pipefail
: "${HEAD:?set HEAD to the name of the machine that the ranks meet on}"
exec zipper-launch --nnodes=2 --nproc_per_node=1 --rdzv_backend=c10d \
    --rdzv_endpoint="$HEAD:${PORT:-29400}" --rdzv_id="${RUN_ID:-zipper}" \
    --max-restarts="${RESTARTS:-3}" \
    -m zipper_dist.train "$@"
