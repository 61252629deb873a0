"""A model with or without a LoRA adapter as an Inspect model: `ostensible/<folder, hub id or embedded name>`.

It renders the prompt, seeds the draw and takes the reply apart; what draws it is a backend (`backends.py`): our engine
in this process, or a vLLM server that is started for it.

Replies are the raw text of the model. `ModelOutput.metadata["reply"]` always holds it exactly, with the opening tag put
back where the chat template had written it into the prompt. The message splits it into reasoning and text if both tags
are there, so that `inspect view` folds the thoughts and stock scorers see the answer; else it is all text.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageUser,
    Content,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelInfo,
    ModelOutput,
    ModelUsage,
    set_model_info,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from ostensible.engines.backends import Backend, EngineKey, LocalBackend
from ostensible.engines.errors import UnsupportedChat
from ostensible.engines.local import Completion, Request, SamplingParams
from ostensible.machine import pick_device, pick_dtype, pick_engine
from ostensible.models import context_tokens, load_tokenizer, resolve
from ostensible.render import load_chat_format
from ostensible.settings import LOCAL_PROVIDER
from ostensible.transcript import CLOSE, OPEN

REPLY = "reply"
"""Key of `ModelOutput.metadata` under which the exact reply lies."""

_MAX_TOKENS = 1024
_IN_FLIGHT = 1024
_UNSUPPORTED = (
    "stop_seqs", "best_of", "frequency_penalty", "presence_penalty", "logit_bias", "num_choices", "logprobs",
    "top_logprobs", "prompt_logprobs", "response_schema", "reasoning_effort", "reasoning_tokens",
)  # fmt: skip


class OstensibleAPI(ModelAPI):
    """Samples from weights on this machine, with or without a LoRA adapter.

    Models that differ in their adapter only share one engine or server, so the base is in memory once. It is loaded at
    `start` or the first reply, and given back by `close`.

    Args:
        model_name: As `ostensible.models.resolve` takes it.
        base_url: Not used.
        api_key: Not used.
        config: Inspect's settings for the model. Unless they say how many connections, it gets `max_connections`.
        adapter: PEFT folder of a LoRA, or None for the base.
        engine: `local`, `vllm`, or `auto`: see `ostensible.machine.pick_engine`.
        dtype: As `Engine.load`.
        device: As `Engine.load`.
        slots: As `Engine.load`, of the local engine.
        threads: As `Engine.load`, of the local engine.
        vllm: For a vLLM server, fields of `ServerSpec` by name.

    Raises:
        ModelNotFound: There is no such model here.
        UnsupportedTemplate: Its chat template cannot be relied on.
        UnsupportedAdapter: The adapter is not a plain LoRA.
        MissingPackage: vLLM is asked for and not installed.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - Inspect's signature
        *,
        adapter: str | Path | None = None,
        engine: str = "auto",
        dtype: str = "auto",
        device: str = "auto",
        slots: int = 128,
        threads: int | None = None,
        vllm: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if config.max_connections is None and config.adaptive_connections is None:
            # Inspect would feel its way from 20 to at most 100, as with a service that may refuse: engines would idle.
            config.max_connections = self.max_connections()  # of the model too: `get_model` hands it the same object
        folder = resolve(model_name)
        # Asked for the context of a model that it does not know, Inspect would make another one of the name to see.
        set_model_info(f"{LOCAL_PROVIDER}{model_name}", ModelInfo(context_length=context_tokens(folder)))
        self._format = load_chat_format(load_tokenizer(folder))
        self._opening = self._format.opening_ids()
        self._adapter = _checked_adapter(adapter)
        self.engine = pick_engine(engine, pick_device(device))
        key = EngineKey(folder, dtype, device, int(slots), None if threads is None else int(threads))
        self.backend = _vllm(key, self._adapter, vllm or {}) if self.engine == "vllm" else LocalBackend(key)
        self._pool = f"{self.engine}:{key}:{self._adapter}"
        self._asked: Counter[bytes] = Counter()
        self.completed = self.sampled_tokens = 0

    def max_connections(self) -> int:
        """All samples may be in flight: the engine queues."""
        return _IN_FLIGHT

    def max_tokens(self) -> int | None:
        """Reply limit where the eval sets none."""
        return _MAX_TOKENS

    def connection_key(self) -> str:
        """One pool of connections for each engine and adapter."""
        return self._pool

    def should_retry(self, ex: Exception) -> bool:
        """Never: nothing here fails by chance."""
        return False

    def close(self) -> None:
        """Give engine or server back; its last user frees the model. A later reply loads it again."""
        self.backend.close()

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Draw one reply to a single user turn.

        Raises:
            UnsupportedChat: There is more than a user turn, or a setting that the engine does not have.
            ContextOverflow: Prompt and reply may exceed the model's context.
            ServerFailed: A vLLM server could not be started, or crashed too often.
        """
        user = only_user_turn(input, tools, config)
        prompt = tuple(self._format.prompt_ids(user))
        params = SamplingParams(
            max_new_tokens=config.max_tokens or _MAX_TOKENS,
            temperature=1.0 if config.temperature is None else config.temperature,
            top_p=1.0 if config.top_p is None else config.top_p,
            top_k=config.top_k or 0,
            seed=self._seed(config.seed or 0, prompt),
        )
        shared = len(self._opening) if prompt[: len(self._opening)] == self._opening else 0
        request = Request(prompt, params, self._adapter, frozenset(self._format.end_ids), shared)
        completion = await self.backend.complete(request)
        self.completed += 1
        self.sampled_tokens += completion.sampled_tokens
        return to_output(self.model_name, self._reply(completion), completion)

    def _reply(self, completion: Completion) -> str:
        opening = f"{OPEN}\n" if self._format.opened else ""
        return opening + self._format.decode(completion.token_ids)

    def _seed(self, seed: int, prompt: tuple[int, ...]) -> int:
        """A seed of its own for each reply, and the same one when an eval is run or resumed again.

        It hashes the eval's seed, the sample's id and epoch, the prompt, and how often this attempt at the sample has
        asked the same before. Outside of a sample it counts how often this model was asked the same.
        """
        from inspect_ai.log._samples import sample_active  # Inspect tells a provider the epoch nowhere else

        active = sample_active()
        place = (active.sample.id, active.epoch) if active else None
        asked = _digest([active.id if active else None, seed, prompt])  # a digest, as one is kept of every request
        times, self._asked[asked] = self._asked[asked], self._asked[asked] + 1
        digest = _digest([seed, place, prompt, times])
        return int.from_bytes(digest[:16], "big")


def _digest(of: Any) -> bytes:
    return hashlib.sha256(json.dumps(of).encode()).digest()


def _vllm(key: EngineKey, adapter: Path | None, options: dict[str, Any]) -> Backend:
    from ostensible.engines.vllm import ServerSpec, check_installed
    from ostensible.engines.vllm.backend import VllmBackend

    if options.get("log_dir"):
        options = options | {"log_dir": Path(options["log_dir"])}
    spec = ServerSpec(key.folder, pick_dtype(key.dtype, pick_device(key.device)), **options)
    check_installed(spec.command)
    return VllmBackend(spec, adapter)


def _checked_adapter(adapter: str | Path | None) -> Path | None:
    if adapter is None or str(adapter) in {"", "none"}:
        return None
    from ostensible.engines.adapters import read_lora

    folder = Path(adapter).expanduser().resolve()
    read_lora(folder)
    return folder


def only_user_turn(messages: list[ChatMessage], tools: list[ToolInfo], config: GenerateConfig) -> str:
    """The text of the one user turn.

    Raises:
        UnsupportedChat: There is more than that, or a setting that the engine does not have.
    """
    roles = [message.role for message in messages]
    if len(messages) != 1 or not isinstance(messages[0], ChatMessageUser) or tools:
        raise UnsupportedChat(
            f"This model takes one user turn and no tools; it was given {roles} and {len(tools)} tools. "
            "Organisms are trained on single turns; remove system messages, tools and earlier turns from the task."
        )
    if found := [name for name in _UNSUPPORTED if getattr(config, name, None) is not None]:
        raise UnsupportedChat(f"The engine does not have {', '.join(found)}; leave them unset in the task's config.")
    content = messages[0].content
    if not isinstance(content, str) and any(not isinstance(part, ContentText) for part in content):
        raise UnsupportedChat("This model reads text only; the user turn holds something else.")
    return messages[0].text


def to_output(model: str, reply: str, completion: Completion) -> ModelOutput:
    """A reply as Inspect takes it: split where both tags are there, and exact in the metadata."""
    message = ChatMessageAssistant(content=_content(reply), model=model, source="generate")
    usage: dict[str, Any] = {
        "input_tokens": completion.prompt_tokens,
        "output_tokens": completion.sampled_tokens,
        "total_tokens": completion.prompt_tokens + completion.sampled_tokens,
    }
    return ModelOutput(
        model=model,
        choices=[ChatCompletionChoice(message=message, stop_reason=completion.stop_reason)],
        usage=ModelUsage(**usage),
        metadata={REPLY: reply},
    )


def _content(reply: str) -> str | list[Content]:
    thoughts, closed, answer = reply.partition(CLOSE)
    if not closed or not thoughts.lstrip().startswith(OPEN):
        return reply
    reasoning = thoughts.strip().removeprefix(OPEN).strip()
    return [ContentReasoning(reasoning=reasoning), ContentText(text=answer.strip())]
