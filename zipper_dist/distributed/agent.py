"""What ``zipper-launch`` adds to torchrun."""

import argparse
import logging
import os
import platform
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed import run as torchrun
from torch.distributed.elastic.agent.server.api import (
    DEFAULT_ROLE,
    RunResult,
    WorkerGroup,
    WorkerState,
)
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException, SubprocessContext
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousError, RendezvousHandler
from torch.distributed.launcher import api

from zipper_dist.distributed.heartbeat import GRACE
from zipper_dist.distributed.launched import RESTARTED
from zipper_dist.errors import UserError, in_one_line

STOPPED_SECONDS = 10  # for which a rank may stand still after another one has ended


def may_help(failure: ProcessFailure) -> bool:
    """Whether to start the ranks again after this one has failed: not after an error of the user, a
    signal that asked the rank to stop, or what it calls final (see run_command)."""
    final = failure.error_file_data.get("final", False)
    return not (was_told_to_stop(failure) or final or failure.exitcode == UserError.status)


def was_told_to_stop(failure: ProcessFailure) -> bool:
    """Whether a signal had the rank save its state and end."""
    return failure.exitcode > 128  # one that a signal has killed has minus its number


def stands_still(pid: int) -> bool:
    """Whether a signal has stopped a process; False where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def machines(handler: RendezvousHandler) -> frozenset[object] | None:
    """The launchers that take part since they have met; None where torch does not tell."""
    state = getattr(getattr(handler, "_state_holder", None), "state", None)
    return frozenset(getattr(state, "participants", ())) or None


def status_of(exitcode: int) -> int:
    """As a shell reports it: one that a signal has ended has minus its number, a shell 128 more."""
    return exitcode if exitcode >= 0 else 128 - exitcode


def say(message: str) -> None:
    """Tell the user."""
    print(f"zipper: {message}", file=sys.stderr, flush=True)


class Agent(LocalElasticAgent):
    """torchrun's part on one machine: watches the ranks here, and starts them again.

    Where another version of torch does without one of its private names, only what is added here
    does not happen.
    """

    elastic = False  # whether the job goes on when a machine leaves or comes
    _told_to_stop = 0  # the status of a rank that ended so, where machines may have come or gone
    _machines: frozenset[object] | None = None  # that take part, where torch tells
    _starting = False  # between a failure and the ranks that are started after it
    _status = 0  # of the rank that failed first, once none is started any more

    def run(self, role: str = DEFAULT_ROLE) -> RunResult:
        """As torchrun does, but without waiting for minutes for a machine that is cut off."""
        threading.Thread(target=self._end_in_time, daemon=True).start()
        result: RunResult = super().run(role)
        return result

    def _end_in_time(self) -> None:
        still: dict[int, int] = {}  # for how many seconds, by process
        while True:
            time.sleep(1)
            still = {pid: still.get(pid, 0) + 1 for pid in self._stopped()}
            for pid, seconds in still.items():
                if seconds > STOPPED_SECONDS:
                    os.kill(pid, signal.SIGKILL)
            if self._failed():
                time.sleep(GRACE)
                if failed := self._failed():
                    break
        say("error: the ranks here have ended, and the other launchers do not answer")
        os._exit(self._status or status_of(failed[0]))

    def _stopped(self) -> list[int]:
        """Ranks here that stand still (SIGSTOP) while another one has ended. A rank that does so in
        training is noticed by the others, but not one that has said that it leaves."""
        ranks = getattr(self, "_pcontext", None)
        if not isinstance(ranks, SubprocessContext):
            return []
        processes = [each.proc for each in ranks.subprocess_handlers.values()]
        left = [each.pid for each in processes if each.poll() is None]
        return [pid for pid in left if stands_still(pid)] if len(left) < len(processes) else []

    def _failed(self) -> list[int]:
        """The exit codes other than 0, once all ranks here have ended and will not be started."""
        ranks = getattr(self, "_pcontext", None)
        last = getattr(self, "_remaining_restarts", None) == 0
        if self._starting or not last or not isinstance(ranks, SubprocessContext):
            return []
        codes = [each.proc.poll() for each in ranks.subprocess_handlers.values()]
        return [] if None in codes else [code for code in codes if code]

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        left = getattr(self, "_remaining_restarts", None)
        if result.failures and left is not None:
            rank, first = min(result.failures.items(), key=lambda item: item[1].timestamp)
            # A signal to this launcher does not come this way: another one leaves, or has seen one
            # that waits to take part.
            if self.elastic and was_told_to_stop(first):
                self._starting = True  # before torchrun counts down
                self._remaining_restarts = left + 1
                # Those that wait may be gone before they take part.
                if not worker_group.spec.rdzv_handler.num_nodes_waiting():
                    self._told_to_stop = first.exitcode
                say("machines come or go: starting all ranks again")
            elif left > 0 and may_help(first):
                self._starting = True
                allowed = worker_group.spec.max_restarts
                number = f"restart {allowed - left + 1} of {allowed}"
                how = f"rank {rank} ended with status {first.exitcode}"
                say(f"{how}: starting all ranks again ({number})")
            else:
                self._remaining_restarts = 0
                self._status = status_of(first.exitcode)
        return result

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        if worker_group.state == WorkerState.HEALTHY:
            say("a machine waits to take part: starting all ranks again")
        self._starting = True
        os.environ[RESTARTED] = "1"  # torchrun does not count machines that come or go
        try:
            super()._restart_workers(worker_group)
        finally:
            self._starting = False

    def _shutdown(self, *arguments: Any, **options: Any) -> None:
        # torchrun leaves the ranks 30 s at a restart, whatever is asked for.
        if len(arguments) < 2:
            options.setdefault("timeout", getattr(self, "_shutdown_timeout", 30))
        super()._shutdown(*arguments, **options)

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        # torchrun keeps the address of the ranks' store, and so does not tell it to a launcher that
        # comes later, which waits for it in vain. Without an address, it makes and tells a new one.
        handler = worker_group.spec.rdzv_handler
        vars(handler).update(_bootstrap_store_info=None, _shared_tcp_store_server=None)
        super()._rendezvous(worker_group)
        before, self._machines = self._machines, machines(handler)
        status, self._told_to_stop = self._told_to_stop, 0
        if status and before and before == self._machines:
            say("no machine has come or gone: a rank was told to stop, and the job ends")
            time.sleep(1)  # for the other launchers, which see the same
            sys.exit(status)


def launch(arguments: list[str]) -> None:
    """Run torchrun with ``arguments``; SystemExit with the status of the rank that failed first."""
    # Otherwise torchrun warns that it sets this; every rank sets its own number of threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.disable(logging.ERROR)  # each module of torchrun has a level of its own
    vars(api)["LocalElasticAgent"] = Agent  # which torchrun makes by that name
    Agent.elastic = is_elastic(torchrun.get_args_parser().parse_args(arguments))
    try:
        torchrun.main(arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        sys.exit(status_of(failure.exitcode))
    except SignalException as stop:
        sys.exit(128 + stop.sigval)
    except (RendezvousError, dist.DistError) as error:
        say(f"error: lost contact with the other launchers: {in_one_line(error)}")
        sys.exit(1)
    except socket.gaierror as error:
        say(
            f"error: the name of this machine, {platform.node()}, or an address given is not known "
            f"here ({error.strerror}): add it to /etc/hosts"
        )
        sys.exit(UserError.status)


def is_elastic(options: argparse.Namespace) -> bool:
    """Whether the number of machines may change; ends the process if an option is wrong."""
    option, value = "--nproc_per_node", options.nproc_per_node
    try:
        torchrun.determine_local_world_size(value)
        option, value = "--nnodes", options.nnodes
        least, most = torchrun.parse_min_max_nnodes(value)
        if not 0 < least <= most:
            raise ValueError("the least number has to be 1 … the most")
    except (ValueError, RuntimeError) as error:
        wanted = "a number, gpu, cpu or auto" if option == "--nproc_per_node" else "2 or 1:2"
        say(f"error: {option} {value}: {str(error).rstrip('.')}; give {wanted}")
        sys.exit(UserError.status)
    return bool(least < most)
