"""The vLLM server as a backend of the Inspect provider: asynchronous requests, bounded retries."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ostensible.engines.errors import ContextOverflow, ServerFailed
from ostensible.engines.local import Completion, Request
from ostensible.engines.vllm.command import BASE, lora_rank
from ostensible.engines.vllm.protocol import FailedOnce, body, completion
from ostensible.engines.vllm.server import Address, Server, ServerSpec
from ostensible.models import end_ids

T = TypeVar("T")
TRIES = 3
"""How often a request is made to a server that is well. After a crash it is made again without being counted."""


@dataclass(slots=True)
class _Pool:
    """The servers of this process, who uses them, and the adapters that they are to serve."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    servers: dict[ServerSpec, Server] = field(default_factory=dict[ServerSpec, Server])
    adapters: dict[ServerSpec, dict[Path, str]] = field(default_factory=dict[ServerSpec, dict[Path, str]])
    users: dict[ServerSpec, set[int]] = field(default_factory=dict[ServerSpec, set[int]])

    def join(self, spec: ServerSpec, adapter: Path | None, user: int) -> None:
        """Have the adapter served by the server of this kind that starts next."""
        with self.lock:
            self.users.setdefault(spec, set()).add(user)
            names = self.adapters.setdefault(spec, {})
            if adapter is not None:
                names.setdefault(adapter, f"adapter-{len(names) + 1}")

    def server(self, spec: ServerSpec, adapter: Path | None) -> Server:
        """The server, perhaps not started.

        Raises:
            ServerFailed: It runs already, without the adapter.
        """
        with self.lock:
            server = self.servers.setdefault(spec, Server(spec, self.adapters[spec]))
        if adapter is not None and adapter not in server.adapters:
            raise ServerFailed(
                f"The vLLM server was started before {adapter} was named, and serves only what it was started with. "
                "Make all models that share a server before the first reply."
            )
        return server

    def leave(self, spec: ServerSpec, user: int) -> None:
        """The last user ends the server."""
        with self.lock:
            users = self.users.get(spec, set())
            users.discard(user)
            server = None if users else self.servers.pop(spec, None)
            if not users:
                self.adapters.pop(spec, None)
        if server is not None:
            server.close()


_POOL = _Pool()


class VllmBackend:
    """Draws replies on a vLLM server. Backends of one spec share the server, whatever their adapters.

    Args:
        spec: Of the server.
        adapter: PEFT folder of a LoRA, or None for the base.

    Raises:
        UnsupportedAdapter: vLLM would compute another adapter.
        MissingPackage: There is no vLLM.
    """

    def __init__(self, spec: ServerSpec, adapter: Path | None) -> None:
        if adapter is not None:
            lora_rank(adapter)
        self._spec = spec
        self._adapter = adapter
        self._end_ids = end_ids(spec.folder)
        self._jobs: dict[str, Future[Address | bool]] = {}
        _POOL.join(spec, adapter, id(self))

    def start(self) -> float:
        """Start the server, if it is not there yet.

        Returns:
            How long it took it to start, in seconds, over all of its starts.

        Raises:
            ServerFailed: It could not be started.
        """
        self._server().start()
        return self.startup_s

    @property
    def startup_s(self) -> float:
        """Seconds that the server has taken to start, over all of its starts."""
        return sum(self._server().startup_s)

    def close(self) -> None:
        """Leave the server; its last user ends it. A later reply starts it again."""
        _POOL.leave(self._spec, id(self))

    async def complete(self, request: Request) -> Completion:
        """Draw a reply. What a crash cut off is asked again, with the same seed.

        Raises:
            ContextOverflow: Prompt and reply may exceed what the server has room for.
            ServerFailed: The server crashed too often, or does not do what it is asked.
        """
        self._check(request)
        server, stop_ids = self._server(), self._end_ids | request.stop_ids
        content = body(request, server.adapters[request.adapter] if request.adapter else BASE, stop_ids)
        failures = 0
        while True:
            address = server.address or await self._once("start", server.start)
            why, hung = "", False
            try:
                status, answer = await self._post(address, content)
                return completion(status, answer, request, stop_ids)
            except FailedOnce as error:
                why = str(error)
            except _transport_error() as error:
                why, hung = f"{type(error).__name__} {error}".strip(), isinstance(error, TimeoutError)
            failures += not await self._recovered(server, address, why, hung=hung)
            if failures == TRIES:
                raise ServerFailed(f"The vLLM server failed {TRIES} times at one request, and is well: {why}")

    def _server(self) -> Server:
        _POOL.join(self._spec, self._adapter, id(self))
        return _POOL.server(self._spec, self._adapter)

    def _check(self, request: Request) -> None:
        room = self._spec.max_model_len
        prompt, reply = len(request.prompt_ids), request.params.max_new_tokens
        if room is not None and prompt + reply > room:
            raise ContextOverflow(
                f"A prompt of {prompt} tokens and a reply of up to {reply} need {prompt + reply}, more than the "
                f"{room} that the vLLM server was started with. Lower max_new_tokens or shorten the prompt."
            )

    async def _post(self, address: Address, content: bytes) -> tuple[int, bytes]:
        """Ask over a connection of its own: hundreds are open at once, and keeping them for a next request is dear."""
        import aiohttp

        patience_s = self._spec.patience_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience_s, sock_read=patience_s)
        url, headers = f"{address.url}/v1/completions", address.headers | {"Content-Type": "application/json"}
        options: Any = {"data": content, "headers": headers, "timeout": timeout, "allow_redirects": False}
        async with aiohttp.request("POST", url, **options) as response:
            return response.status, await response.read()

    async def _recovered(self, server: Server, broken: Address, why: str, *, hung: bool) -> bool:
        name = f"recover {broken.generation} {hung}"
        return bool(await self._once(name, lambda: server.recover(broken, why, hung=hung)))

    async def _once(self, name: str, work: "Callable[[], T]") -> "T":
        """Do slow work in a thread; all who ask for it while it is under way wait for the same.

        The thread is a daemon of its own: asyncio waits for those of its pool, and Ctrl-C would wait for a server.
        """
        if name not in self._jobs:
            job: Future[T] = Future()
            job.set_running_or_notify_cancel()  # one waiter that is cancelled must not take it from the others
            job.add_done_callback(lambda _: self._jobs.pop(name, None))
            self._jobs[name] = job  # pyright: ignore[reportArgumentType]
            threading.Thread(target=_fill, args=(job, work), daemon=True).start()
        return await asyncio.wrap_future(self._jobs[name])  # pyright: ignore[reportReturnType]


def _fill(job: "Future[T]", work: "Callable[[], T]") -> None:
    try:
        job.set_result(work())
    except BaseException as error:
        job.set_exception(error)


def _transport_error() -> type[Exception]:
    import aiohttp

    return aiohttp.ClientError
