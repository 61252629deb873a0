"""One vLLM server process: started when first needed, started again a bounded number of times when it crashes.

It listens on this machine only, asks for a key that only we have, and never outlives us (see `guard.py`).
"""

import json
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from ostensible.engines.errors import EngineClosed, ServerFailed
from ostensible.engines.vllm import guard
from ostensible.engines.vllm.command import BASE, HOST, arguments, environment, likely_cause
from ostensible.errors import MissingPackage

_POLL_S = 0.1
_TAIL_LINES = 12
_TAIL_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What two models must have in common to share a server.

    Attributes:
        folder: Of the model.
        dtype: Of weights and activations.
        max_model_len: Longest prompt and reply together, in tokens; None leaves it to vLLM.
        command: That starts it, options included; None is `vllm serve` of this Python.
        patience_s: Longest wait for it to start, and for a reply.
        restarts: How often it is started again after a crash.
        log_dir: Where its output is kept; None is a temporary folder.
    """

    folder: Path
    dtype: str
    max_model_len: int | None = None
    command: str | None = None
    patience_s: float = 900.0
    restarts: int = 2
    log_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server answers. `generation` counts its starts, from 1."""

    url: str
    key: str
    generation: int

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}


def check_installed(command: str | None) -> None:
    """Make sure that there is a vLLM to start.

    Raises:
        MissingPackage: There is none, and no command of the user's own; or no such command.
    """
    if command is None and find_spec("vllm") is None:
        raise MissingPackage(
            "vLLM is not installed, so --engine vllm cannot sample. pip install 'ostensible[vllm]' (Linux with a CUDA "
            "GPU), name a command that starts it with --vllm-command, or use --engine local."
        )
    if command is not None and not any(map(shutil.which, shlex.split(command)[:1])):
        raise MissingPackage(f"--vllm-command {command!r} names no program that can be run here.")


class Server:
    """A server of one model and its adapters. Thread-safe.

    Args:
        spec: What to start.
        adapters: PEFT folder -> the name that requests give it.

    Attributes:
        address: Of the running server; None while there is none.
        startup_s: How long each start took.
    """

    def __init__(self, spec: ServerSpec, adapters: Mapping[Path, str]) -> None:
        self.spec = spec
        self.adapters = dict(adapters)
        self.address: Address | None = None
        self.startup_s: list[float] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def start(self) -> Address:
        """Start it if it is not there yet, and wait until it answers.

        Raises:
            ServerFailed: It ended, or did not answer in time; the message has its last words.
            MissingPackage: There is no vLLM.
            EngineClosed: It was closed meanwhile.
        """
        with self._lock:
            return self.address or self._start()

    def recover(self, broken: Address, why: str, *, hung: bool = False) -> bool:
        """See to a server that failed a request.

        Args:
            broken: Where it was asked.
            why: What went wrong.
            hung: It did not reply in time: its own word that it is well counts for nothing.

        Returns:
            Whether it was started anew since the request; False is that it is well, and the failure the request's own.

        Raises:
            ServerFailed: It crashed more often than it may be started again.
        """
        with self._lock:
            if self.address != broken:
                if self.address is None:
                    self._start()
                return True
            if not hung and self._is_well_soon(broken):
                return False
            self._end()
            if len(self.startup_s) > self.spec.restarts:
                raise ServerFailed(
                    self._complaint(f"crashed {len(self.startup_s)} times while it sampled (last: {why})")
                )
            self._start()
            return True

    def close(self) -> None:
        """End it and all that it started."""
        self._closing.set()
        with self._lock:
            self._end()

    def _start(self) -> Address:
        check_installed(self.spec.command)
        if self._closing.is_set():
            raise EngineClosed("The vLLM server was closed.")
        began = time.monotonic()
        address = Address(f"http://{HOST}:{_free_port()}", secrets.token_urlsafe(24), len(self.startup_s) + 1)
        self._launch(address)
        try:
            self._wait(address, until=began + self.spec.patience_s)
            self._check_models(address)
        except BaseException:
            self._end()
            raise
        self.startup_s.append(time.monotonic() - began)
        self.address = address
        return address

    def _launch(self, address: Address) -> None:
        spec = self.spec
        words = arguments(
            spec.folder, self.adapters, command=spec.command, port=int(address.url.rpartition(":")[2]),
            dtype=spec.dtype, max_model_len=spec.max_model_len,
        )  # fmt: skip
        self._log, output = _new_log(spec.log_dir)
        with output:
            self._process = subprocess.Popen(
                [sys.executable, guard.__file__, *words],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment(address.key),
                start_new_session=True,  # Ctrl-C in a terminal is for us; we end the server
            )  # fmt: skip

    def _wait(self, address: Address, *, until: float) -> None:
        while not self._is_well(address):
            if self._process is None or self._process.poll() is not None:
                raise ServerFailed(self._complaint("ended before it could answer"))
            if time.monotonic() > until:
                raise ServerFailed(
                    self._complaint(
                        f"did not answer within {self.spec.patience_s:g} s",
                        "Raise --vllm-patience-s if it needs longer.",
                    )
                )
            if self._closing.wait(_POLL_S):
                raise EngineClosed("The vLLM server was closed while it started.")

    def _is_well(self, address: Address) -> bool:
        """Whether the process lives, and says that its engine does."""
        if self._process is None or self._process.poll() is not None:
            return False
        return _get(address, "/health")[0] == HTTPStatus.OK

    def _is_well_soon(self, address: Address) -> bool:
        """As `_is_well`; a process that has just failed gets a moment to end."""
        with suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(0.5)
        return self._is_well(address)

    def _check_models(self, address: Address) -> None:
        status, content = _get(address, "/v1/models")
        names = {card["id"] for card in json.loads(content)["data"]} if status == HTTPStatus.OK else set[str]()
        if missing := {BASE, *self.adapters.values()} - names:
            raise ServerFailed(self._complaint(f"does not serve {', '.join(sorted(missing))} (HTTP {status})"))

    def _end(self) -> None:
        """Close the guard's standard input: it ends the server's processes."""
        process, self._process, self.address = self._process, None, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(guard.GRACE_S + 5)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def _complaint(self, what: str, advice: str = "") -> str:
        tail = _tail(self._log)
        advice = likely_cause("\n".join(tail)) or advice or "Its log says more."
        said = "\n  ".join(tail) or "(nothing)"
        return f"The vLLM server {what}. {advice}\nIts last words, from {self._log}:\n  {said}"


def _get(address: Address, path: str) -> tuple[int, bytes]:
    """Ask a server one thing: status and body, or status 0 where nobody answers."""
    connection = HTTPConnection(address.url.removeprefix("http://"), timeout=10.0)
    try:
        connection.request("GET", path, headers=address.headers)
        found = connection.getresponse()
        return found.status, found.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


def _new_log(folder: Path | None) -> tuple[Path, IO[bytes]]:
    """The first of `vllm-1.log`, `vllm-2.log`, ... that is not there yet."""
    folder = folder or Path(tempfile.mkdtemp(prefix="ostensible-vllm-"))
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = folder / f"vllm-{number}.log"
        with suppress(FileExistsError):
            return path, path.open("xb")
        number += 1


def _tail(log: Path | None) -> list[str]:
    """The last lines of a log that say anything."""
    if log is None or not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [line[:400] for line in lines if line.strip()][-_TAIL_LINES:]
