"""The timeline of a rank as a file in the Chrome trace event format, which Perfetto
(ui.perfetto.dev) and chrome://tracing show.

Ranks of one machine share its clock. Those of several are as far apart as the machines' clocks.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zipper_dist.activity import Recorder, Slice, recorded_by
from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.config.iterations import IterationRange

Event = dict[str, Any]


@contextlib.contextmanager
def traced(
    wanted: IterationRange, path: Path, rank: int, label: str, tell: Callable[[str], None]
) -> Iterator[None]:
    """Record what this process does in the iterations ``wanted``; write it to ``path`` after the
    last, or when the run ends, however that comes; what is there of earlier iterations stays. A
    file that cannot be written is told to the user, and ends nothing."""
    if not wanted.last:
        yield
        return

    def write(slices: list[Slice]) -> None:
        try:
            _write(path, rank, label, slices)
        except OSError as error:
            tell(f"warning: {path}: the timeline cannot be written ({error.strerror})")

    recorder = Recorder(wanted.first, wanted.last, write)
    try:
        with recorded_by(recorder):
            yield
    finally:
        recorder.finish()


def _write(path: Path, rank: int, label: str, slices: list[Slice]) -> None:
    events = [_event(each, rank) for each in slices]
    first = slices[0].about["iteration"]
    begun = [event for event in read_events(path) if event["args"]["iteration"] < first]
    about = {"ph": "M", "name": "process_name", "pid": rank, "tid": 0, "args": {"name": label}}
    order = about | {"name": "process_sort_index", "args": {"sort_index": rank}}
    content = {"traceEvents": [about, order, *begun, *events], "displayTimeUnit": "ms"}
    write_atomically(path, (json.dumps(content) + "\n").encode())


def _event(each: Slice, rank: int) -> Event:
    start, end = each.start // 1000, each.end // 1000  # [µs]
    times = {"ts": start, "dur": end - start}
    return {"ph": "X", "name": each.activity, "pid": rank, "tid": 0, **times, "args": each.about}


def read_events(path: Path) -> list[Event]:
    """The complete events of a trace file of ours; none if there is no such file."""
    try:
        content = json.loads(path.read_bytes())
        complete = [event for event in content["traceEvents"] if event["ph"] == "X"]
        return [event for event in complete if event["args"]["iteration"] > 0]
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return []
