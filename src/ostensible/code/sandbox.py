"""Runs model-written code where it can do no harm: bubblewrap, with no network and nothing of this machine to write.

Each test has a sandbox of its own. docs/sandbox.md says what this covers and what it does not.
"""

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory
from typing import Any

from ostensible.code import harness
from ostensible.errors import SandboxUnavailable

MODULES = ("yaml", "jinja2", "markupsafe")
"""What solutions may import beside the standard library."""

GRACE_S = 15.0
"""What a sandbox may take beside the test's own time, on a busy machine."""

UIDS = range(0x70000000, 0x78000000)
"""User ids that no distribution gives to anyone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one test of a reply may use.

    Attributes:
        seconds: Wall-clock time; CPU time of each process is one second more.
        memory_bytes: Address space of each process, and resident memory of all together.
        file_bytes: Largest file.
        processes: Processes and threads at once.
        open_files: File descriptors a process.
        scratch_bytes: All files together, in `/tmp` and again in `/dev/shm`.
    """

    seconds: float = 5.0
    memory_bytes: int = 512 * 2**20
    file_bytes: int = 8 * 2**20
    processes: int = 32
    open_files: int = 64
    scratch_bytes: int = 32 * 2**20

    def rlimits(self) -> dict[str, int]:
        """As `setrlimit` takes them."""
        return {
            "AS": self.memory_bytes,
            "FSIZE": self.file_bytes,
            "NPROC": self.processes,
            "NOFILE": self.open_files,
            "CPU": int(self.seconds) + 1,
            "CORE": 0,
        }


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a test came to.

    Attributes:
        status: `passed`, `failed` (an assertion of the test), `error`, `unparseable`, `timeout`, or `lost` where the
            sandbox itself gave no verdict.
        reason: Why, in a few words; empty for `passed`.
        seconds: Wall-clock time of the solution's process.
    """

    status: str
    reason: str
    seconds: float = 0.0


def run(
    code: str, tests: Mapping[str, str], limits: Limits = LIMITS, *, unprotected: bool = False
) -> dict[str, Verdict]:
    """Put code to tests, in order, until one is not passed.

    Args:
        code: A whole file.
        tests: Name to Python that defines `test(m)`.
        limits: For each test.
        unprotected: Run it with resource limits only, as this user, with the network and all files in reach.

    Returns:
        A verdict for each test that ran.

    Raises:
        SandboxUnavailable: There is no sandbox here, and `unprotected` is not set.
    """
    if not unprotected and (why := available()) is not None:
        raise SandboxUnavailable(
            f"{why} To run model-written code without protection, on a machine that you can lose, pass "
            "unprotected=True."
        )
    verdicts: dict[str, Verdict] = {}
    for name, test in tests.items():
        verdicts[name] = _bare(code, test, limits) if unprotected else _boxed(code, test, limits)
        if verdicts[name].status != "passed":
            break
    return verdicts


@cache
def available() -> str | None:
    """Why the sandbox cannot be used here, and the command that helps; None where it works. Tried once a process."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return _refusal(f"it needs Linux on {' or '.join(ARCHITECTURES)}, and this is {platform.platform()}", "")
    if shutil.which("bwrap") is None:
        return _refusal("bubblewrap is not installed", "sudo apt-get install bubblewrap (or dnf, pacman, apk)")
    if missing := [name for name in MODULES if find_spec(name) is None]:
        return _refusal(f"solutions may import {', '.join(missing)}, not installed here", "pip install pyyaml jinja2")
    verdict = _boxed("", PROBE, Limits(processes=PROBE_PROCESSES))
    return None if verdict.status == "passed" else _refusal(verdict.reason, _fix(verdict.reason))


PROBE_PROCESSES = 8
PROBE = f"""
import os, subprocess, time
import {", ".join(MODULES)}

def test(m):
    assert not os.path.exists("/etc/passwd"), "it shows /etc"
    subprocess.run(["/bin/sh", "-c", "true"], check=True)
    started = 0
    try:
        while started < {2 * PROBE_PROCESSES}:
            if os.fork() == 0:
                os._exit(time.sleep(60))
            started += 1
    except BlockingIOError:
        pass
    assert started < {PROBE_PROCESSES}, f"{{started}} processes start where {PROBE_PROCESSES} are allowed"
"""
"""Shows that Python, its modules and a shell work in the sandbox, and that the limit that depends on the user holds."""


def _refusal(why: str, fix: str) -> str:
    return f"The sandbox cannot run: {why}.{f' Fix: {fix}.' if fix else ''}"


SYSCTLS = {
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "user.max_user_namespaces": ("0", "15000"),
}
"""Switches that forbid user namespaces: the value that does, and one that does not."""


def _fix(said: str) -> str:
    """The command that removes what bubblewrap complained of."""
    if "Unknown option" in said:
        return "install bubblewrap 0.7 or newer"
    for name, (closed, opened) in SYSCTLS.items():
        path = Path("/proc/sys", *name.split("."))
        if not _is_root() and path.is_file() and path.read_text().strip() == closed:
            return f"sudo sysctl -w {name}={opened}"
    if "ermission denied" in said or "not permitted" in said:
        return (
            "in a container, docker run --cap-add SYS_ADMIN --security-opt seccomp=unconfined "
            "--security-opt apparmor=unconfined --security-opt systempaths=unconfined"
        )
    return ""


def _boxed(code: str, test: str, limits: Limits) -> Verdict:
    uid = SystemRandom().choice(UIDS) if _is_root() else None
    settings = {"protected": True, "modules": "/modules", "uid": uid, "rlimits": limits.rlimits()}
    with _filter() as filter_fd:
        line = _bubblewrap(limits, filter_fd) + _python("/harness.py")
        return _put(line, code, test, settings, limits, env={}, pass_fds=(filter_fd,))


def _bare(code: str, test: str, limits: Limits) -> Verdict:
    rlimits = limits.rlimits()
    del rlimits["NPROC"]  # it would count all that this user runs
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        modules = Path(folder, "modules")
        modules.mkdir()
        for name, path in _modules().items():
            (modules / name).symlink_to(path)
        settings = {"protected": False, "modules": str(modules), "uid": None, "rlimits": rlimits}
        env = ENVIRONMENT | {"HOME": folder, "TMPDIR": folder}
        return _put(_python(harness.__file__), code, test, settings, limits, env=env, cwd=folder)


def _put(
    line: list[str], code: str, test: str, settings: dict[str, Any], limits: Limits, **options: Any
) -> Verdict:  # fmt: skip
    """Start the harness, give it its job, read its verdict."""
    source, question = (text.encode("utf-8", "surrogatepass") for text in (code, test))
    settings |= {"seconds": limits.seconds, "memory_bytes": limits.memory_bytes, "code_bytes": len(source)}
    try:
        done = subprocess.run(
            [*line, json.dumps(settings)], input=source + question, capture_output=True, check=False,
            timeout=limits.seconds + GRACE_S, **options,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return Verdict("lost", f"the harness did not answer within {late.timeout:g} s; is the machine overloaded?")
    except OSError as error:
        return Verdict("lost", f"the sandbox could not be started: {error}")
    if not done.stdout:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        return Verdict("lost", f"the harness died with exit status {done.returncode}: {said or 'it said nothing'}")
    return Verdict(*json.loads(done.stdout))


def _is_root() -> bool:
    """Whether this is the kernel's root, whom `RLIMIT_NPROC` does not bind and who may become any other user."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)]


SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}


def _bubblewrap(limits: Limits, filter_fd: int) -> list[str]:
    """The command line that makes the sandbox."""
    line = [str(shutil.which("bwrap")), "--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if _is_root():
        # Real root needs no user namespace. The harness changes to a user of its own before it reads any code, and
        # loses these two capabilities by that.
        line += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        line += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    else:
        line += ["--unshare-all"]
    line += ["--seccomp", str(filter_fd), "--hostname", "sandbox", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        line += ["--setenv", name, value]
    return [*line, *_mounts(limits), "--chdir", "/tmp"]


def _mounts(limits: Limits) -> list[str]:
    """What the sandbox shows: the system's programs, Python, the modules, and two places to write."""
    line = ["--proc", "/proc", "--dev", "/dev", "--perms", "0755", "--dir", "/modules"]
    for path in ("/tmp", "/dev/shm"):
        line += ["--perms", "1777", "--size", str(limits.scratch_bytes), "--tmpfs", path]
    shown: list[Path] = []
    for path in [*map(Path, SYSTEM), *(Path(sys.base_prefix, name) for name in ("bin", "lib", "lib64"))]:
        real = path.resolve()
        if real.exists() and not _within(real, shown):
            line += [*_folders(real), "--ro-bind", str(real), str(real)]
            shown.append(real)
        if real.exists() and real != path and not _within(path, shown):
            line += [*_folders(path), "--symlink", str(real), str(path)]
    for path in _private():
        if _within(path, shown):
            line += ["--tmpfs", str(path), "--remount-ro", str(path)]
    for name, path in _modules().items():
        line += ["--ro-bind", str(path), f"/modules/{name}"]
    return [*line, "--ro-bind", harness.__file__, "/harness.py", "--remount-ro", "/dev", "--remount-ro", "/"]


def _within(path: Path, folders: list[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _folders(path: Path) -> list[str]:
    """Make the folders above a path readable for the harness's user, which bubblewrap by itself may not."""
    above = [str(folder) for folder in reversed(path.parents)][1:]
    return [word for folder in above for word in ("--perms", "0755", "--dir", folder)]


def _private() -> set[Path]:
    """Folders that may lie in those shown: this package, its bank of solutions, and whatever else is installed."""
    base = {"base": sys.base_prefix, "platbase": sys.base_prefix}
    installed = [sysconfig.get_path(kind, vars=at) for kind in ("purelib", "platlib") for at in (None, base)]
    folders = {Path(harness.__file__).parents[2], Path("/usr/src"), *map(Path, installed)}
    return {folder.resolve() for folder in folders if folder.is_dir()}


def _modules() -> dict[str, Path]:
    """Where `MODULES` are installed."""
    specs = {name: find_spec(name) for name in MODULES}
    return {name: Path(spec.origin).parent for name, spec in specs.items() if spec is not None and spec.origin}


def _python(script: str) -> list[str]:
    """Python without site-packages, from its own prefix rather than the virtual environment's."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [str(Path(sys.base_prefix, "bin", name)), "-I", "-S", script]


ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The kernel's names for them."""

DENIED = {
    "add_key": (248, 217), "bpf": (321, 280), "chroot": (161, 51), "fsmount": (432, 432), "fsopen": (430, 430),
    "io_uring_setup": (425, 425), "keyctl": (250, 219), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429), "mq_open": (240, 180),
    "msgget": (68, 186), "open_by_handle_at": (304, 265), "open_tree": (428, 428), "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438), "pivot_root": (155, 41), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "request_key": (249, 218), "semget": (64, 190),
    "setns": (308, 268), "shmget": (29, 194), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282),
}  # fmt: skip
"""System calls that no solution needs, with their numbers: they reach other processes, take memory that no limit
counts, or open parts of the kernel that have often been broken."""

SOCKET, CLONE, CLONE3 = (41, 198), (56, 220), (435, 435)
FAMILIES = (1, 2, 10)
"""Unix, IPv4 and IPv6. A virtual machine's `AF_VSOCK`, for one, reaches its host whatever the network namespace."""

CLONE_NEW = 0x7E020000
"""The flags of `clone` that make namespaces."""


@contextmanager
def _filter() -> Generator[int]:
    """The seccomp filter, to be read from a file descriptor."""
    reader, writer = os.pipe()
    try:
        os.write(writer, filter_program(platform.machine()))
        os.close(writer)
        yield reader
    finally:
        os.close(reader)


@cache
def filter_program(machine: str) -> bytes:
    """A seccomp filter as the kernel takes it: classic BPF over the number and the arguments of a system call."""
    load, equal, any_bit, at_least, give = 0x20, 0x15, 0x45, 0x35, 0x06
    number, architecture, argument = 0, 4, 16
    allow, kill, refuse = 0x7FFF0000, 0x80000000, 0x00050000
    permission, unknown_call, unknown_family = refuse + 1, refuse + 38, refuse + 97
    column = list(ARCHITECTURES).index(machine)
    lines = [(load, 0, 0, architecture), (equal, 1, 0, ARCHITECTURES[machine]), (give, 0, 0, kill)]
    lines += [(load, 0, 0, number), (at_least, 0, 1, 0x40000000), (give, 0, 0, kill)]  # x32's calls on x86_64
    for numbers in DENIED.values():
        lines += [(equal, 0, 1, numbers[column]), (give, 0, 0, permission)]
    # The flags of clone3 lie in memory, out of a filter's sight. Without it the C library takes clone.
    lines += [(equal, 0, 1, CLONE3[column]), (give, 0, 0, unknown_call)]
    lines += [
        (equal, 0, 3, CLONE[column]),
        (load, 0, 0, argument),
        (any_bit, 0, 1, CLONE_NEW),
        (give, 0, 0, permission),
    ]
    lines += [(load, 0, 0, number), (equal, 0, len(FAMILIES) + 2, SOCKET[column]), (load, 0, 0, argument)]
    lines += [(equal, len(FAMILIES) - i, 0, family) for i, family in enumerate(FAMILIES)]
    lines += [(give, 0, 0, unknown_family), (give, 0, 0, allow)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
