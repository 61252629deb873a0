"""Runs a command, and ends it and all that it started when its owner is gone, however the owner ended.

    python guard.py COMMAND...

The owner holds the other end of standard input. When that closes (the owner closed it, crashed or was killed) the
command's process group gets SIGTERM and, some seconds later, SIGKILL. Only the standard library is used, so that it
starts at once; it is run as a file and imports nothing of this package.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE_S = 8.0
"""Between SIGTERM and SIGKILL."""


def main(command: list[str]) -> int:
    """Run a command to its end, or to its owner's.

    Returns:
        Its exit status; 128 and the signal's number where a signal ended it, 127 where it could not be started.
    """
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error}", file=sys.stderr, flush=True)
        return 127
    threading.Thread(target=_follow_owner, args=(child,), daemon=True).start()
    status = child.wait()
    _signal(child, signal.SIGKILL)  # what it started and left behind
    return status if status >= 0 else 128 - status


def _follow_owner(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 4096):
        pass
    _signal(child, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    _signal(child, signal.SIGKILL)


def _signal(child: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
