"""Runs inside the sandbox: loads a solution and puts it to one test. Standard library only.

Called as `python -I -S harness.py SETTINGS` with the solution, then the test, on standard input. Writes a JSON list to
standard output: `passed`, `failed`, `error`, `unparseable` or `timeout`; a reason; the seconds it took.

The solution has a process of its own. It is forked before the test is read and gets the test only when the solution is
loaded. A verdict counts only with the key that came with the test, so that a blind write is not a verdict.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
import types
from collections.abc import Generator
from typing import Any, NoReturn

MESSAGE_BYTES = 2**16
REASON_CHARS = 300  # keeps a message below the 4096 bytes that a pipe takes in one piece
LOOK_S = 0.02  # between two looks at the solution's processes
FORGED = "it wrote to the harness's pipe"
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
Settings = dict[str, Any]


@contextlib.contextmanager
def attempt() -> Generator[None]:
    """What the code under attack raises is its defence: the attack goes on to look for damage."""
    with contextlib.suppress(Exception, SystemExit):
        yield


class NoVerdict(Exception):
    """The solution's process will give none; its arguments are the status and the reason."""


def main() -> None:
    """Read the solution, fork its process, put it to the test, report."""
    settings = json.loads(sys.argv[1])
    sys.path.append(settings["modules"])
    if settings["protected"]:
        seclude(settings["uid"])
    code = read(settings["code_bytes"]).decode("utf-8", "surrogatepass")
    (inbox, ask), (answers, outbox) = os.pipe(), os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(ask)
        os.close(answers)
        live(code, inbox, outbox, settings)
    os.close(inbox)  # but not `outbox`: `answers` shall not end before the process does
    try:
        status, reason = question(child, ask, answers, settings)
    except NoVerdict as why:
        status, reason = why.args
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)  # in the sandbox this process is PID 1, and all others die with it
    print(json.dumps([status, reason, round(time.monotonic() - start, 3)]))


def seclude(uid: int | None) -> None:
    """Give up root for a user of its own, and hide this process's memory from others of that user."""
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_DUMPABLE, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # the change of user has cleared bubblewrap's


def read(size: int = sys.maxsize) -> bytes:
    """Read so much from standard input and nothing beyond, which buffered reading would."""
    data = b""
    while more := os.read(0, min(size - len(data), MESSAGE_BYTES)):
        data += more
    return data


def question(child: int, ask: int, answers: int, settings: Settings) -> tuple[str, str]:
    """Wait until the solution is loaded, send the test, wait for the verdict."""
    deadline = time.monotonic() + settings["seconds"]
    _, status, reason = receive(child, answers, deadline, settings)
    if status != "loaded":
        return (status, reason) if status in ("unparseable", "error") else ("error", FORGED)
    key = os.urandom(16).hex()
    with contextlib.suppress(BrokenPipeError), open(ask, "wb") as stream:
        stream.write(key.encode() + read())
    given, status, reason = receive(child, answers, deadline, settings)
    if given != key or status not in ("passed", "failed", "error"):
        return "error", FORGED
    return status, reason


def receive(child: int, answers: int, deadline: float, settings: Settings) -> tuple[str, str, str]:
    """The next message from the solution's process, while that lives, has time and keeps to its memory."""
    ended = ""
    while not select.select([answers], [], [], 0 if ended else LOOK_S)[0]:
        if ended:
            raise NoVerdict("error", f"its process {ended} before the test ended")
        if time.monotonic() > deadline:
            raise NoVerdict("timeout", f"it did not end within {settings['seconds']:g} s")
        if settings["protected"] and resident_bytes() > settings["memory_bytes"]:
            raise NoVerdict("error", f"killed for memory: its processes hold over {settings['memory_bytes'] >> 20} MiB")
        ended = how_it_ended(child)
    try:
        key, status, reason = map(str, json.loads(os.read(answers, MESSAGE_BYTES)))
    except (ValueError, TypeError, RecursionError):
        raise NoVerdict("error", FORGED) from None
    return key, status, reason.encode("utf-8", "replace").decode()[:REASON_CHARS]


def resident_bytes() -> int:
    """Memory of all processes but this one. Each is limited by `RLIMIT_AS`; this limits them together."""
    pages = 0
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/statm", "rb") as stream:
                pages += int(stream.read().split()[1])
    return pages * resource.getpagesize()


def how_it_ended(child: int) -> str:
    """In words; empty while it lives."""
    ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        return ""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended itself with exit status {code}"
    hint = " (out of CPU time)" if -code == signal.SIGXCPU else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"


def live(code: str, inbox: int, outbox: int, settings: Settings) -> NoReturn:
    """The life of the solution's process; never returns."""
    write, leave = os.write, os._exit  # as they are: tests replace functions of `os`
    try:
        confine(settings["rlimits"])
        module, status, reason = load(code)
        write(outbox, message("", status, reason))
        if module is not None:
            with open(inbox, "rb") as stream:
                key, test = stream.read(32).decode(), stream.read().decode("utf-8", "surrogatepass")
            write(outbox, message(key, *judge(module, test)))
        leave(0)
    finally:
        leave(1)


def confine(rlimits: dict[str, int]) -> None:
    """A session, an empty current folder, no streams, limits."""
    os.setsid()
    os.mkdir("work")
    os.chdir("work")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    for name, value in rlimits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def message(key: str, status: str, reason: str) -> bytes:
    """As it goes over the pipe."""
    return json.dumps([key, status, reason[:REASON_CHARS]]).encode()


def load(code: str) -> tuple[types.ModuleType | None, str, str]:
    """The solution as a module, or None and what is wrong with it."""
    try:
        compiled = compile(code, "solution.py", "exec")
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        return None, "unparseable", f"{type(error).__name__}: {error}"
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    try:
        exec(compiled, module.__dict__)
    except BaseException as error:
        return None, "error", f"loading it raises {say(error)}"
    return module, "loaded", ""


def judge(module: types.ModuleType, test: str) -> tuple[str, str]:
    """Put a module to a test."""
    space: dict[str, Any] = {"attempt": attempt}
    try:
        exec(compile(test, "test.py", "exec"), space)
        space["test"](module)
    except AssertionError as error:
        return "failed", say(error)
    except BaseException as error:
        return "error", say(error)
    return "passed", ""


def say(error: BaseException) -> str:
    """An exception in words, with the line of the solution or the test where it was raised."""
    where, step = "", error.__traceback__
    while step is not None:
        if (name := step.tb_frame.f_code.co_filename) in ("solution.py", "test.py"):
            where = f" at {name}:{step.tb_lineno}"
        step = step.tb_next
    try:
        return f"{type(error).__name__}: {str(error)[:200]}{where}"
    except BaseException:  # `__str__` is the solution's
        return f"{type(error).__name__}{where}"


if __name__ == "__main__":
    main()
