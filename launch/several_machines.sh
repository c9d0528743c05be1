#!/usr/bin/env bash
# Several machines. Start it on all NODES of them, with the same HEAD (the name of one). Usage:
#   HEAD=node1 NODES=2 launch/several_machines.sh RECIPE [OPTION …]
# RANKS processes on this machine, or one for each GPU (core, if there is none). The run directory
# should be one that all machines see; otherwise each keeps its own part of the checkpoints, and the
# run has to be continued on the same machines. NODES=1:4 begins with one and goes on with those of
# four that are there. When a rank dies, all start again, up to RESTARTS times (3), once they meet.
# ADDRESS: of this machine, where the others cannot find it by its host name.
set -euo pipefail
# torchrun kills the ranks so long after it has told them to end [seconds]; saving may take a while.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-100}
: "${HEAD:?set HEAD to the name of the machine that the ranks meet on}"
: "${NODES:?set NODES to the number of machines, or to the least and the most, such as 1:4}"
exec zipper-launch --nnodes="$NODES" --nproc_per_node="${RANKS:-auto}" --rdzv_backend=c10d \
    --rdzv_endpoint="$HEAD:${PORT:-29400}" --rdzv_id="${RUN_ID:-zipper}" \
    ${ADDRESS:+"--local_addr=$ADDRESS"} --max-restarts="${RESTARTS:-3}" -m zipper_dist.train "$@"
