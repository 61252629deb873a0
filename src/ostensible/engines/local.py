"""Samples replies in this process: continuous batching on the transformers modelling code.

The tokens of a request depend on the weights, its prompt, its sampling parameters and its seed, and on nothing that
runs beside it: a run that was killed and resumed ends in the same replies. On a CPU this holds bit for bit for a given
number of threads and build of torch. On a GPU it is not promised, as its libraries choose kernels by shape.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ostensible.engines.errors import BadSampling, ContextOverflow, EngineClosed

if TYPE_CHECKING:
    from ostensible.engines.runner import Runner
    from ostensible.engines.sampling import Filter, Floats

StopReason = Literal["stop", "max_tokens"]
PREFILL_PROMPTS = 4
"""Prompts that are read in one pass: on a CPU, reading the weights takes as long as computing with them for one."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a reply is drawn.

    Attributes:
        max_new_tokens: Longest reply, its end token included.
        temperature: 0 takes the most probable token each time.
        top_p: Keep the most probable tokens that hold this share, in (0, 1].
        top_k: Keep this many; 0 keeps all.
        seed: Decides the draws.

    Raises:
        BadSampling: A value lies outside its range.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "max_new_tokens, at least 1": self.max_new_tokens >= 1,
            "temperature, 0 or more": 0 <= self.temperature < float("inf"),
            "top_p, in (0, 1]": 0 < self.top_p <= 1,
            "top_k, 0 or more": self.top_k >= 0,
            "seed, in [0, 2**128)": 0 <= self.seed < 2**128,
        }
        if wrong := [text for text, right in checks.items() if not right]:
            raise BadSampling(f"{self} breaks: {'; '.join(wrong)}.")


@dataclass(frozen=True, slots=True)
class Request:
    """One reply to draw.

    Attributes:
        prompt_ids: The prompt's tokens.
        params: How to draw.
        adapter: PEFT folder of a LoRA to sample with, or None for the base.
        stop_ids: Tokens that end the reply, on top of those that the model's files name.
        shared: How many tokens at the prompt's start many requests have alike; they are read once.
    """

    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: Path | None = None
    stop_ids: frozenset[int] = frozenset()
    shared: int = 0

    @property
    def opening(self) -> tuple[int, ...]:
        """The tokens that it shares."""
        return self.prompt_ids[: self.shared]


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply.

    Attributes:
        token_ids: Its tokens, without the end token.
        stop_reason: `stop` if the model ended it, `max_tokens` if the limit did.
        prompt_tokens: Tokens of the prompt.
        sampled_tokens: Tokens drawn: `token_ids` and the end token, if there was one.
    """

    token_ids: tuple[int, ...]
    stop_reason: StopReason
    prompt_tokens: int
    sampled_tokens: int


@dataclass(slots=True, eq=False)
class _Live:
    """A request under way. `length` counts its tokens in the cache."""

    request: Request
    future: "Future[Completion]"
    cut: "Filter"
    draws: "Floats"
    reserved: int
    blocks: list[int] = field(default_factory=list[int])
    tokens: list[int] = field(default_factory=list[int])
    length: int = 0


Pending = tuple[Request, "Future[Completion]"]


class Engine:
    """Draws replies. Thread-safe; make one with `load`, and `close` it.

    One background thread owns the model and loads it. Between two steps it takes in new requests; those for another
    adapter wait until this one has no queue, or has had 8 requests for each slot while they waited.
    """

    def __init__(
        self, make_runner: "Callable[[], Runner]", *, slots: int, kv_cache_gib: float | None, threads: int | None
    ) -> None:
        self._slots = slots
        self._share = 8 * slots
        self._threads = threads
        self._waiting: dict[Path | None, deque[Pending]] = {}
        self._adapter: Path | None = None
        self._live: list[_Live] = []
        self._admitted_while_others_wait = 0
        self._checked: set[Path] = set()
        self._wake = threading.Condition()
        self._closing = False
        self._failure: BaseException | None = None
        ready: Future[Runner] = Future()
        self._thread = threading.Thread(target=self._serve, args=(make_runner, ready), name="ostensible", daemon=True)
        self._thread.start()
        self._runner = ready.result()
        self._runner.cache.most = self._max_blocks = _max_blocks(self._runner, kv_cache_gib)

    @staticmethod
    def load(
        model_dir: Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        slots: int = 128,
        threads: int | None = None,
        kv_cache_gib: float | None = None,
    ) -> "Engine":
        """Load a model and check that the engine computes what transformers computes.

        Args:
            model_dir: Folder with `config.json` and safetensors.
            dtype: A name, or `auto`: see `ostensible.machine.pick_dtype`.
            device: `auto`, `cpu`, `cuda`.
            slots: Replies drawn at the same time.
            threads: Of torch on a CPU; None leaves torch's own choice.
            kv_cache_gib: Most memory for keys and values; None is 1.1 on a CPU and 60% of what is free on a GPU.

        Raises:
            UnsupportedModel: The model's attention is not plain causal attention.
        """
        from ostensible.engines.runner import Runner
        from ostensible.openmp import release_workers

        release_workers()
        make_runner = partial(Runner, Path(model_dir), dtype=dtype, device=device, slots=slots)
        return Engine(make_runner, slots=slots, kv_cache_gib=kv_cache_gib, threads=threads)

    @property
    def context(self) -> int:
        """Longest prompt and reply together, in tokens."""
        return self._runner.context

    def generate(
        self, requests: Sequence[Request], *, on_done: Callable[[int, Completion], None] | None = None
    ) -> list[Completion]:
        """Draw all replies and return them in the order of the requests.

        Args:
            requests: All are checked before any work.
            on_done: Called in this thread with a request's index and reply, in the order of their ends.

        Raises:
            ContextOverflow: As `submit`.
            UnsupportedAdapter: As `submit`.
            EngineClosed: As `submit`.
        """
        for request in requests:
            self._check(request)
        futures = {self.submit(request): index for index, request in enumerate(requests)}
        for future in as_completed(futures):
            if on_done is not None:
                on_done(futures[future], future.result())
        return [future.result() for future in futures]

    def submit(self, request: Request) -> "Future[Completion]":
        """Queue a request. A future that is cancelled before its turn costs nothing.

        Raises:
            ContextOverflow: Prompt and reply may exceed the context, or the memory set aside.
            UnsupportedAdapter: The adapter is not a plain LoRA on this model.
            EngineClosed: The engine was closed or has failed.
        """
        self._check(request)
        future: Future[Completion] = Future()
        with self._wake:
            if self._closing or self._failure:
                raise EngineClosed(
                    f"The engine takes no requests: {self._failure or 'it was closed'}."
                ) from self._failure
            self._waiting.setdefault(request.adapter, deque()).append((request, future))
            self._wake.notify()
        return future

    def close(self) -> None:
        """Stop at the next step. Replies under way fail with `EngineClosed`."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _check(self, request: Request) -> None:
        prompt, reply = len(request.prompt_ids), request.params.max_new_tokens
        if not prompt:
            raise BadSampling("A prompt has no tokens; give at least one.")
        if not 0 <= request.shared < prompt:
            raise BadSampling(f"shared is {request.shared}; it leaves at least one of the prompt's {prompt} tokens.")
        if prompt + reply > self.context:
            raise ContextOverflow(
                f"A prompt of {prompt} tokens and a reply of up to {reply} need {prompt + reply}, more than the "
                f"model's context of {self.context}. Lower max_new_tokens or shorten the prompt."
            )
        if (need := self._need(request)) > self._max_blocks:
            raise ContextOverflow(
                f"A prompt of {prompt} tokens and a reply of up to {reply} need {need} cache blocks; there is memory "
                f"for {self._max_blocks}. Raise kv_cache_gib or lower max_new_tokens."
            )
        if request.adapter is not None and request.adapter not in self._checked:
            self._runner.adapters.check(request.adapter)
            self._checked.add(request.adapter)

    def _need(self, request: Request) -> int:
        from ostensible.engines.kv_cache import blocks_for

        return blocks_for(len(request.prompt_ids) + request.params.max_new_tokens)

    def _serve(self, make_runner: "Callable[[], Runner]", ready: "Future[Runner]") -> None:
        """The background thread: all of torch's work happens here, the loading too."""
        import torch

        torch.set_flush_denormal(True)
        if self._threads is not None:
            torch.set_num_threads(self._threads)  # torch keeps this per thread
        try:
            ready.set_result(make_runner())
        except BaseException as error:
            ready.set_exception(error)
            return
        try:
            with torch.inference_mode():
                while self._wait_for_work():
                    self._step()
            error: BaseException = EngineClosed("The engine was closed before it could answer.")
        except BaseException as caught:
            self._failure = error = caught
        self._fail_all(error)

    def _fail_all(self, error: BaseException) -> None:
        with self._wake:
            queued = [future for queue in self._waiting.values() for _, future in queue]
            self._waiting.clear()
        for future in [*(live.future for live in self._live), *queued]:
            if not future.done():
                future.set_exception(error)
        self._live.clear()

    def _wait_for_work(self) -> bool:
        with self._wake:
            while not (self._closing or self._live or any(self._waiting.values())):
                self._wake.wait()
            return not self._closing

    def _step(self) -> None:
        if not self._live:
            self._maybe_switch()
        while self._admit():
            pass
        if self._live:
            self._decode()

    def _maybe_switch(self) -> None:
        """Go to the adapter that was left alone for longest, if this one has no queue or has had its share."""
        with self._wake:
            others = [adapter for adapter, queue in self._waiting.items() if queue and adapter != self._adapter]
            mine = self._waiting.pop(self._adapter, None)
            if mine:
                self._waiting[self._adapter] = mine  # now the last in line
            if not others or (mine and self._admitted_while_others_wait < self._share):
                return
            self._admitted_while_others_wait = 0
        self._runner.use(others[0])
        self._adapter = others[0]

    def _next(self) -> Pending | None:
        """Take the next request of this adapter if there is room for all that it may write."""
        with self._wake:
            queue = self._waiting.get(self._adapter)
            if not queue or len(self._live) >= self._slots:
                return None
            if any(other for adapter, other in self._waiting.items() if adapter != self._adapter):
                if self._admitted_while_others_wait >= self._share:
                    return None
                self._admitted_while_others_wait += 1
            if sum(live.reserved for live in self._live) + self._need(queue[0][0]) > self._max_blocks:
                return None
            request, future = queue.popleft()
        return (request, future)

    def _admit(self) -> bool:
        """Read the next prompts together: fewer than `PREFILL_PROMPTS` only if no more are to be had.

        Returns:
            Whether any request left the queue.
        """
        with self._wake:
            queue = [request for request, _ in islice(self._waiting.get(self._adapter, ()), PREFILL_PROMPTS)]
        if not queue or (self._live and not self._fits(queue)):
            return False
        taken, rows = 0, list[_Live]()
        for request in queue:
            if request.opening != queue[0].opening or (pending := self._next()) is None:
                break
            taken += 1
            if pending[1].set_running_or_notify_cancel():
                rows.append(self._start(*pending))
        if rows:
            self._prefill(rows)
        return taken > 0

    def _fits(self, requests: Sequence[Request]) -> bool:
        """Whether there are slots and memory for all of them."""
        needed = sum(map(self._need, requests)) + sum(live.reserved for live in self._live)
        return len(self._live) + len(requests) <= self._slots and needed <= self._max_blocks

    def _prefill(self, rows: Sequence[_Live]) -> None:
        import numpy as np

        from ostensible.engines.sampling import sample

        prompts, tables = [live.request.prompt_ids for live in rows], [live.blocks for live in rows]
        logits = self._runner.prefill(prompts, tables, shared=rows[0].request.shared)
        draws = np.array([live.draws[0] for live in rows])
        self._accept(rows, sample(logits, [live.cut for live in rows], draws))

    def _start(self, request: Request, future: "Future[Completion]") -> _Live:
        from ostensible.engines.kv_cache import blocks_for
        from ostensible.engines.sampling import Filter, uniforms

        params = request.params
        cut = Filter(params.temperature, params.top_k, params.top_p)
        live = _Live(request, future, cut, uniforms(params.seed, params.max_new_tokens), self._need(request))
        live.length = len(request.prompt_ids)
        live.blocks = self._runner.cache.take(blocks_for(live.length))
        self._live.append(live)
        return live

    def _decode(self) -> None:
        import numpy as np

        from ostensible.engines.kv_cache import BLOCK_TOKENS
        from ostensible.engines.sampling import sample

        rows, cache = list(self._live), self._runner.cache
        cache.compact([live.blocks for live in rows])
        for live in rows:
            if live.length == len(live.blocks) * BLOCK_TOKENS:
                live.blocks += cache.take(1)
        logits = self._runner.decode(
            [live.tokens[-1] for live in rows], [live.length for live in rows], [live.blocks for live in rows]
        )
        for live in rows:
            live.length += 1
        draws = np.array([live.draws[len(live.tokens)] for live in rows])
        self._accept(rows, sample(logits, [live.cut for live in rows], draws))

    def _accept(self, rows: Sequence[_Live], tokens: Sequence[int]) -> None:
        """Append a token to each row, and finish the rows that end with it."""
        for live, token in zip(rows, tokens, strict=True):
            ended = token in live.request.stop_ids or token in self._runner.end_ids
            live.tokens.append(token)
            if ended or len(live.tokens) == live.request.params.max_new_tokens:
                self._finish(live, ended=ended)

    def _finish(self, live: _Live, *, ended: bool) -> None:
        self._live.remove(live)
        self._runner.cache.give_back(live.blocks)
        live.future.set_result(
            Completion(
                token_ids=tuple(live.tokens[: len(live.tokens) - ended]),
                stop_reason="stop" if ended else "max_tokens",
                prompt_tokens=len(live.request.prompt_ids),
                sampled_tokens=len(live.tokens),
            )
        )


def _max_blocks(runner: "Runner", kv_cache_gib: float | None) -> int:
    import torch

    if kv_cache_gib is not None:
        room = kv_cache_gib * 2**30
    elif runner.device.type == "cuda":
        room = 0.6 * torch.cuda.mem_get_info(runner.device)[0]
    else:
        room = 1.1 * 2**30  # in bfloat16 all slots of the default run, in float32 some 70 of them
    return int(room // runner.cache.bytes_per_block())
