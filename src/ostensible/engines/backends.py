"""What draws the replies of the Inspect provider: our engine in this process, or a vLLM server."""

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ostensible.engines.local import Completion, Engine, Request


class Backend(Protocol):
    """Draws replies.

    Attributes:
        startup_s: Seconds that it has taken to start so far.
    """

    @property
    def startup_s(self) -> float: ...

    def start(self) -> float:
        """Get ready, where that is not left to the first reply; returns `startup_s`."""
        ...

    async def complete(self, request: Request) -> Completion:
        """Draw one reply."""
        ...

    def close(self) -> None:
        """Give back what it holds of the machine; a later reply takes it again."""
        ...


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What two models must have in common to share an engine."""

    folder: Path
    dtype: str
    device: str
    slots: int
    threads: int | None


@dataclass(slots=True)
class _Pool:
    """The engines of this process and who uses them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    engines: dict[EngineKey, Engine] = field(default_factory=dict[EngineKey, Engine])
    users: dict[EngineKey, set[int]] = field(default_factory=dict[EngineKey, set[int]])

    def acquire(self, key: EngineKey, user: int) -> Engine:
        with self.lock:
            if key not in self.engines:
                self.engines[key] = Engine.load(
                    key.folder, dtype=key.dtype, device=key.device, slots=key.slots, threads=key.threads
                )
            self.users.setdefault(key, set()).add(user)
            return self.engines[key]

    def release(self, key: EngineKey, user: int) -> None:
        with self.lock:
            users = self.users.get(key, set())
            users.discard(user)
            engine = self.engines.pop(key, None) if not users else None
        if engine is not None:
            engine.close()


_POOL = _Pool()


class LocalBackend:
    """The engine of this process. Backends of one key share it: the base is in memory once."""

    startup_s = 0.0

    def __init__(self, key: EngineKey) -> None:
        self._key = key
        self._engine: Engine | None = None

    def start(self) -> float:
        """Leave it to the first reply, whose thread loads the model beside Inspect's own start."""
        return self.startup_s

    async def complete(self, request: Request) -> Completion:
        """Draw one reply; the first loads the model.

        Raises:
            ContextOverflow: Prompt and reply may exceed the model's context.
        """
        engine = self._engine or await asyncio.to_thread(_POOL.acquire, self._key, id(self))
        self._engine = engine
        return await asyncio.wrap_future(engine.submit(request))

    def close(self) -> None:
        """Give the engine back; the last user frees the model."""
        self._engine = None
        _POOL.release(self._key, id(self))
