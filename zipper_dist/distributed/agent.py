"""What ``zipper-launch`` adds to torchrun."""

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch.distributed as dist
from torch.distributed import run as torchrun
from torch.distributed.elastic.agent.server.api import DEFAULT_ROLE, RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException, SubprocessContext
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher import api

from zipper_dist.distributed.heartbeat import GRACE
from zipper_dist.errors import UserError, in_one_line

STOPPED_SECONDS = 10  # for which a rank may stand still after another one has ended


def may_help(failure: ProcessFailure) -> bool:
    """Whether to start the ranks again after this one has failed: not after an error of the user, a
    signal that asked the rank to stop, or what it calls final (see run_command)."""
    stopped = failure.exitcode > 128  # one that a signal has killed has minus its number
    final = failure.error_file_data.get("final", False)
    return not (stopped or final or failure.exitcode == UserError.status)


def stands_still(pid: int) -> bool:
    """Whether a signal has stopped a process; False where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def status_of(exitcode: int) -> int:
    """As a shell reports it: one that a signal has ended has minus its number, a shell 128 more."""
    return exitcode if exitcode >= 0 else 128 - exitcode


class Agent(LocalElasticAgent):
    """torchrun's part on one machine: watches the ranks here, and starts them again.

    Where another version of torch does without one of its private names, only what is added here
    does not happen.
    """

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
        lost = "the ranks here have ended, and the other launchers do not answer"
        print(f"zipper: error: {lost}", file=sys.stderr, flush=True)
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
            if left > 0 and may_help(first):
                self._starting = True  # before torchrun counts down
                allowed = worker_group.spec.max_restarts
                number = f"restart {allowed - left + 1} of {allowed}"
                how = f"rank {rank} ended with status {first.exitcode}"
                print(f"zipper: {how}: starting all ranks again ({number})", file=sys.stderr)
            else:
                self._remaining_restarts = 0
                self._status = status_of(first.exitcode)
        return result

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        self._starting = True
        try:
            super()._restart_workers(worker_group)
        finally:
            self._starting = False


def launch(arguments: list[str]) -> None:
    """Run torchrun with ``arguments``; SystemExit with the status of the rank that failed first."""
    # Otherwise torchrun warns that it sets this; every rank sets its own number of threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.disable(logging.ERROR)  # each module of torchrun has a level of its own
    vars(api)["LocalElasticAgent"] = Agent  # which torchrun makes by that name
    try:
        torchrun.main(arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        sys.exit(status_of(failure.exitcode))
    except SignalException as stop:
        sys.exit(128 + stop.sigval)
    except (RendezvousError, dist.DistError) as error:
        print(
            f"zipper: error: lost contact with the other launchers: {in_one_line(error)}",
            file=sys.stderr,
        )
        sys.exit(1)
