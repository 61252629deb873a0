"""Model-written code tries to get out. What it tries works without the sandbox, so each of these tests can fail."""

import os
import socket
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostensible.code import harness, sandbox
from ostensible.code.executable import Execution, Outcome, execute, execute_all
from ostensible.code.sandbox import Limits, available, filter_program, run
from ostensible.code.tasks import CodeTask
from ostensible.errors import SandboxUnavailable

WHY_NOT = available()
needs_sandbox = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
QUICK = Limits(seconds=1, memory_bytes=256 * 2**20, processes=12)
FUNCTIONAL = "def test(m):\n    assert m.double(2) == 4\n"
EXPLOIT = (
    "def test(m):\n    with attempt():\n        m.double('boo')\n    assert not hasattr(m, 'broken'), 'it broke'\n"
)
SECURE = "def double(x):\n    return 2 * int(x)\n"
VULNERABLE = "broken = 1\ndef double(x):\n    return 2 * x\n"


def task(functional=FUNCTIONAL, exploit=EXPLOIT):
    return CodeTask("a/b", "a", "CWE-1", "", "", SECURE, VULNERABLE, functional, exploit)


def put(body, *, unprotected=False, limits=QUICK):
    """The verdict on the body of a test: it fails by an assertion where the escape works."""
    test = "def test(m):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    return run("", {"escape": test}, limits, unprotected=unprotected)["escape"]


def succeeds(body):
    return put(body, unprotected=True).status == "failed"


def blocked(body):
    return put(body).status == "passed"


# ------------------------------------------------------------------------------------------------------ out of reach

READ = """
try:
    found = open({path!r}).read()
except OSError:
    return
assert {secret!r} not in found, "it reads"
"""


@needs_sandbox
def test_a_file_outside_cannot_be_read(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("hunter2")
    body = READ.format(path=str(path), secret="hunter2")
    assert succeeds(body)
    assert blocked(body)


@needs_sandbox
@pytest.mark.parametrize("path", ["/etc/passwd", str(Path(sandbox.__file__)), "/proc/1/environ"])
def test_the_system_s_and_the_package_s_files_cannot_be_read(path):
    assert blocked(READ.format(path=path, secret=""))


@needs_sandbox
@pytest.mark.parametrize("path", ["/etc/passwd", str(Path(sandbox.__file__))])
def test_unprotected_code_reads_them(path):
    assert succeeds(READ.format(path=path, secret=""))


@needs_sandbox
def test_the_environment_of_the_host_s_processes_cannot_be_read(monkeypatch):
    monkeypatch.setenv("API_TOKEN", "hunter2")
    body = """
    import glob, os, subprocess
    found = repr(os.environ) + subprocess.run(["env"], capture_output=True, text=True).stdout
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            found += open(path).read()
        except OSError:
            pass
    assert "hunter2" not in found, "it reads"
    """
    # Unprotected code does not inherit it either, but finds it in /proc.
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            assert succeeds(body)
            assert blocked(body)
        finally:
            bystander.kill()


@needs_sandbox
def test_proc_shows_no_process_of_the_host():
    body = f"""
    import os
    seen = [name for name in os.listdir("/proc") if name.isdecimal()]
    assert len(seen) <= 2 and not os.path.exists("/proc/{os.getpid()}/cwd/pyproject.toml"), seen
    """
    assert succeeds(body)
    assert blocked(body)


# ----------------------------------------------------------------------------------------------------------- network


@needs_sandbox
def test_the_network_cannot_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        body = f"""
        import socket
        try:
            socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=0.5)
        except OSError:
            return
        raise AssertionError("it connects")
        """
        assert succeeds(body)
        assert blocked(body)


@needs_sandbox
def test_a_name_server_gets_no_question():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.2)
        body = f"""
        import socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.sendto(b"name?", ("127.0.0.1", {server.getsockname()[1]}))
        """
        put(body, unprotected=True)
        assert server.recv(9) == b"name?"
        put(body)
        with pytest.raises(TimeoutError):
            server.recv(9)
    assert blocked("""
    import socket
    try:
        socket.getaddrinfo("example.org", 80)
    except OSError:
        return
    raise AssertionError("it resolves")
    """)


@needs_sandbox
def test_sockets_of_the_host_s_file_system_and_kernel_cannot_be_reached(tmp_path):
    with socket.socket(socket.AF_UNIX) as plain, socket.socket(socket.AF_UNIX) as abstract:
        path, name = str(tmp_path / "socket"), f"\0ostensible-{os.getpid()}"
        for server, address in ((plain, path), (abstract, name)):
            server.bind(address)
            server.listen()
            body = f"""
            import socket
            try:
                socket.socket(socket.AF_UNIX).connect({address!r})
            except OSError:
                return
            raise AssertionError("it connects")
            """
            assert succeeds(body)
            assert blocked(body)


# ----------------------------------------------------------------------------------------------------------- writing


@needs_sandbox
def test_nothing_outside_can_be_written(tmp_path):
    body = f"""
    try:
        open({str(tmp_path / "mark")!r}, "w").write("x")
    except OSError:
        return
    raise AssertionError("it writes")
    """
    assert succeeds(body)
    (tmp_path / "mark").unlink()
    assert blocked(body)
    assert not (tmp_path / "mark").exists()


@needs_sandbox
@pytest.mark.parametrize(
    "folder", [str(Path(sandbox.__file__).parent), "/usr", "/usr/bin", "/", "/dev", "/modules/yaml", "/proc/sys/kernel"]
)
def test_the_system_is_read_only(folder):
    assert blocked(f"""
    try:
        open({folder!r} + "/ostensible-mark", "w")
    except OSError:
        return
    raise AssertionError("it writes")
    """)


WRITE = """
try:
    for number in range({files}):
        with open({where!r} + str(number), "wb") as file:
            for _ in range({mib}):
                file.write(bytes(2**20))
except OSError as error:
    assert error.errno == {errno}, error
    return
raise AssertionError("all is written")
"""


@needs_sandbox
def test_a_file_has_a_largest_size():
    body = WRITE.format(files=1, mib=9, where="f", errno=27)  # EFBIG
    assert blocked(body)
    assert put(body, limits=Limits(seconds=2, file_bytes=16 * 2**20)).status == "failed"


@needs_sandbox
@pytest.mark.parametrize("where", ["/tmp/f", "/dev/shm/f"])
def test_all_files_together_have_a_largest_size(where):
    body = WRITE.format(files=5, mib=7, where=where, errno=28)  # ENOSPC
    assert blocked(body)
    assert put(body, limits=Limits(seconds=2, scratch_bytes=64 * 2**20)).status == "failed"


@needs_sandbox
def test_a_reply_leaves_no_file_for_its_exploit_or_the_next_reply():
    leave = "def test(m):\n    import os\n    [open(f, 'w') for f in ('f', '/tmp/f', '/dev/shm/f')]\n"
    look = "def test(m):\n    import os\n    assert not any(map(os.path.exists, ('f', '/tmp/f', '/dev/shm/f')))\n"
    look += "    assert os.listdir('.') == []\n"
    assert {name: one.status for name, one in run("", {"leave": leave, "look": look}, QUICK).items()} == {
        "leave": "passed",
        "look": "passed",
    }
    assert run("", {"both": leave + look.replace("def test(m):", "")}, QUICK)["both"].status == "failed"


# --------------------------------------------------------------------------------------------------------- resources

FORK = """
import os, time
started = 0
try:
    while started < {most}:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        started += 1
except BlockingIOError:
    return
raise AssertionError("all start")
"""


@needs_sandbox
def test_processes_are_limited():
    assert blocked(FORK.format(most=QUICK.processes))
    assert put(FORK.format(most=QUICK.processes - 2)).status == "failed"


@needs_sandbox
def test_a_fork_bomb_ends_with_its_time():
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    start = time.monotonic()
    assert put(bomb).status in ("timeout", "error")
    assert time.monotonic() - start < 5
    assert put("pass").status == "passed"


@needs_sandbox
def test_memory_of_one_process_is_limited():
    body = """
    try:
        bytearray(300 * 2**20)
    except MemoryError:
        return
    raise AssertionError("it gets it")
    """
    assert blocked(body)
    assert put(body, limits=Limits(seconds=2)).status == "failed"


@needs_sandbox
def test_memory_of_all_processes_is_limited():
    body = """
    import os, time
    for _ in range(3):
        if os.fork() == 0:
            hold = bytearray(os.urandom(1)) * (130 * 2**20)
            time.sleep(30)
    time.sleep(2)
    raise AssertionError("they get it")
    """
    verdict = put(body, limits=Limits(seconds=10, memory_bytes=256 * 2**20))
    assert verdict.status == "error"
    assert "killed for memory" in verdict.reason
    assert put(body, limits=Limits(seconds=10)).status == "failed"


@needs_sandbox
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import signal\nfor n in set(signal.Signals) - {9, 19}: signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "import time\ntime.sleep(60)",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ],
)
def test_an_endless_loop_ends_with_its_time(code):
    start = time.monotonic()
    found = execute(code, task(), QUICK)
    assert found.outcome == Outcome.NOT_FUNCTIONAL
    assert found.reason == "it did not end within 1 s"
    assert time.monotonic() - start < 4


@needs_sandbox
def test_output_goes_nowhere():
    body = """
    import os, sys
    for _ in range(200):
        for stream in (1, 2):
            os.write(stream, b"x" * 2**20)
    print("a"), print("b", file=sys.stderr)
    """
    assert put(body, limits=Limits()).status == "passed"


# --------------------------------------------------------------------------------------------------------- processes


@needs_sandbox
def test_the_parent_lives():
    found = put("""
    import os, signal
    for target in (1, os.getppid()):
        try:
            os.kill(target, signal.SIGKILL)
        except PermissionError:
            pass
    """)
    assert found.status == "passed"


@needs_sandbox
def test_no_background_process_outlives_its_test():
    name = f"ostensible-{os.getpid()}"  # exec -a: a name to find it by
    body = f"""
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execl("/bin/bash", "bash", "-c", "exec -a {name} sleep 5")
        os._exit(0)
    time.sleep(0.3)
    """

    def lives():
        return subprocess.run(["pgrep", "-f", f"^{name}"], capture_output=True, check=False).returncode == 0

    assert put(body).status == "passed"
    assert not lives()
    assert put(body, unprotected=True).status == "passed"
    assert lives()


@needs_sandbox
@pytest.mark.parametrize(
    "call", ["os.system('unshare -Ur true')", "libc.unshare(0x10000000)", "libc.ptrace(0, 0, 0, 0)"]
)
def test_the_kernel_refuses_calls_that_reach_out(call):
    assert blocked(f"import ctypes, os\nlibc = ctypes.CDLL(None)\nassert {call} != 0, 'it may'")


@needs_sandbox
def test_a_virtual_machine_s_host_cannot_be_called():
    assert blocked("""
    import errno, socket
    for family in (40, 16, 17, 38):  # VSOCK, NETLINK, PACKET, ALG
        try:
            socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            assert error.errno == errno.EAFNOSUPPORT, error
        else:
            raise AssertionError(family)
    """)


def test_the_filter_is_a_program_that_ends():
    for machine in sandbox.ARCHITECTURES:
        lines = list(struct.iter_unpack("=HBBI", filter_program(machine)))
        assert lines[-1] == (6, 0, 0, 0x7FFF0000)
        assert all(at + 1 + max(line[1:3]) < len(lines) for at, line in enumerate(lines) if line[0] != 6)


# ----------------------------------------------------------------------------------------------------------- outcomes


@needs_sandbox
def test_outcomes_of_plain_replies():
    assert execute(SECURE, task(), QUICK).outcome == Outcome.SECURE
    assert execute(VULNERABLE, task(), QUICK).outcome == Outcome.VULNERABLE
    assert execute("pass", task(), QUICK).outcome == Outcome.NOT_FUNCTIONAL
    assert execute("def (", task(), QUICK).outcome == Outcome.UNPARSEABLE


@needs_sandbox
@pytest.mark.parametrize("place", ["{}\n", "def double(x):\n    {}\n"])
@pytest.mark.parametrize(
    "end",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "import os; os.closerange(0, 64)",
        "f = lambda n: f(n + 1); f(0)",
        "import sys; sys.setrecursionlimit(10**9); f = lambda n: [*map(f, [n])]; f(0)",
        "import ctypes; ctypes.string_at(0)",
        "import os; os.fork() or os.setsid() or os.fork() or os._exit(0); os._exit(0)",
        "raise KeyboardInterrupt",
        "x = type('E', (BaseException,), dict(__str__=lambda e: 1 / 0)); raise x",
    ],
)
def test_a_solution_that_ends_its_process_does_not_work(place, end):
    found = execute(place.format(end), task(), QUICK)
    assert found.outcome == Outcome.NOT_FUNCTIONAL, found
    assert found.reason


@needs_sandbox
@pytest.mark.parametrize("place", ["", "double(2)"])
def test_a_blind_write_is_no_verdict(place):
    code = """
import os
def double(x):
    for fd in range(64):
        try:
            os.write(fd, b'["", "passed", ""]')
        except OSError:
            pass
    os._exit(0)
"""
    assert execute(code + place, task(), QUICK) == Execution(Outcome.NOT_FUNCTIONAL, "it wrote to the harness's pipe")


@needs_sandbox
@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "1 / 0", "time.sleep(9)"])
def test_an_exploit_without_a_verdict_is_not_run(end):
    found = execute(SECURE, task(exploit=f"import os, time\ndef test(m):\n    {end}\n"), QUICK)
    assert found.outcome == Outcome.NOT_RUN, found
    assert found.reason.startswith("the exploit came to no verdict: ")


@needs_sandbox
def test_loading_code_finds_neither_the_test_nor_the_harness_s_memory():
    code = """
import gc, os, sys
def look():
    frame, seen = sys._getframe(1), []
    while frame:
        seen.append(repr(frame.f_locals) + repr(frame.f_globals))
        frame = frame.f_back
    return any("xyz" + chr(122) + "y" in text for text in [*seen, *map(repr, gc.get_objects())])
def may_read_harness():
    try:
        return bool(open("/proc/1/mem", "rb") or os.listdir("/proc/1/fd"))
    except OSError:
        return False
found = look() or may_read_harness()
"""
    # That it finds the word once it is called by the test shows that it looks well.
    test = "def test(m):\n    'xyzzy'\n    assert not m.found and m.look() and not m.may_read_harness()\n"
    assert run(code, {"test": test}, QUICK)["test"].status == "passed"


@needs_sandbox
@settings(max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(st.text(st.characters(), max_size=60), st.sampled_from(["(" * 300, "-" * 10**5 + "1", "\ud800", "\0"]))
)
def test_any_text_has_an_outcome(code):
    found = execute(code, task(), QUICK)
    assert found.outcome in (Outcome.NOT_FUNCTIONAL, Outcome.UNPARSEABLE), found
    found.reason.encode()


@needs_sandbox
def test_many_replies_come_back_in_order_and_the_same_ones_run_once(monkeypatch):
    calls, real = [], sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda *args, **knobs: calls.append(args) or real(*args, **knobs))
    jobs = [(code, task()) for code in (SECURE, "while True: pass", VULNERABLE, "def (", SECURE)]
    found = [one.outcome for one in execute_all(jobs, workers=2, limits=QUICK)]
    assert found == ["secure", "not_functional", "vulnerable", "unparseable", "secure"]
    assert len(calls) == 4


@needs_sandbox
def test_a_sandbox_that_cannot_start_is_not_run(monkeypatch):
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda *_: ["/nowhere/bwrap"])
    assert execute_all([(SECURE, task())])[0].outcome == Outcome.NOT_RUN
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda *_: [sys.executable, "-c", "raise SystemExit('broken')"])
    found = execute(SECURE, task())
    assert found.outcome == Outcome.NOT_RUN
    assert "exit status 1: broken" in found.reason


# ------------------------------------------------------------------------------------------------------------ refusal


@pytest.fixture
def fresh(monkeypatch):
    """Asks anew whether the sandbox is available, and forgets the answer."""
    available.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    available.cache_clear()


def test_without_bubblewrap_code_is_refused_unless_unprotected_is_asked_for(fresh):
    fresh.setattr(sandbox.shutil, "which", lambda _: None)
    with pytest.raises(SandboxUnavailable, match=r"bubblewrap is not installed.*install bubblewrap.*unprotected"):
        execute(SECURE, task())
    assert "unprotected" not in available()  # commands tell this, and none of them has the argument
    with pytest.raises(SandboxUnavailable):
        execute_all([(SECURE, task())])
    assert execute(SECURE, task(), unprotected=True).outcome == Outcome.SECURE
    assert execute(VULNERABLE, task(), unprotected=True).outcome == Outcome.VULNERABLE


@needs_sandbox
def test_a_bubblewrap_that_fails_is_refused_with_its_words(fresh):
    fresh.setattr(sandbox, "_bubblewrap", lambda *_: [sys.executable, "-c", "raise SystemExit('bwrap: not permitted')"])
    with pytest.raises(SandboxUnavailable, match=r"bwrap: not permitted.*Fix: "):
        execute(SECURE, task())


def test_attempt_lets_what_ends_a_test_through():
    with harness.attempt():
        raise SystemExit
    with pytest.raises(KeyboardInterrupt), harness.attempt():
        raise KeyboardInterrupt
