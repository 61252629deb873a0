"""Requests to `/v1/completions` of vLLM and what comes back, checked.

The prompt goes over as token ids and the reply comes back as token ids, so that no text is tokenised on the way: what
the server reads is what `render.py` made, and what it says is decoded as in training.

Source: `CompletionRequest` and `CompletionResponse` of vLLM 0.26.
"""

import json
from typing import Any

from ostensible.engines.errors import ServerFailed
from ostensible.engines.local import Completion, Request, StopReason

_STOP_REASONS: dict[str, StopReason] = {"stop": "stop", "length": "max_tokens"}


class FailedOnce(Exception):
    """A reply that is none, such as an internal error or a cut-off body; asking again may help."""


def body(request: Request, model: str, stop_ids: frozenset[int]) -> bytes:
    """Write a request.

    Args:
        request: The reply to draw.
        model: Name of the base or of an adapter on the server.
        stop_ids: All tokens that end a reply.
    """
    params = request.params
    fields: dict[str, Any] = {
        "model": model,
        "prompt": request.prompt_ids,
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "stop_token_ids": sorted(stop_ids),
        "skip_special_tokens": False,
        "add_special_tokens": False,
        "return_token_ids": True,
    }
    if params.temperature > 0:
        fields["seed"] = params.seed % 2**63
    return json.dumps(fields, separators=(",", ":")).encode()


def completion(status: int, content: bytes, request: Request, stop_ids: frozenset[int]) -> Completion:
    """Read a reply.

    Raises:
        FailedOnce: The server failed, or its reply is cut off.
        ServerFailed: It refused the request, or did something else than it was asked.
    """
    if status >= 500:
        raise FailedOnce(f"HTTP {status}: {_message(content)}")
    if status != 200:
        raise ServerFailed(f"The vLLM server refused a request (HTTP {status}): {_message(content)}")
    try:
        answer = json.loads(content)
        (choice,) = answer["choices"]
        tokens, read = list(map(int, choice["token_ids"])), choice["prompt_token_ids"]
        finish, prompt_tokens = str(choice["finish_reason"]), int(answer["usage"]["prompt_tokens"])
    except (ValueError, KeyError, TypeError) as error:
        raise FailedOnce(f"a reply that cannot be read ({type(error).__name__}: {error})") from error
    if prompt_tokens != len(request.prompt_ids) or tuple(read) != request.prompt_ids:
        raise ServerFailed(
            f"The vLLM server read {prompt_tokens} tokens where {len(request.prompt_ids)} were sent, or others; its "
            "replies would be to other prompts than the model was trained on. Try --engine local."
        )
    return _complete(tokens, finish, request, stop_ids)


def _complete(tokens: list[int], finish: str, request: Request, stop_ids: frozenset[int]) -> Completion:
    if finish not in _STOP_REASONS:
        raise FailedOnce(f"a reply that ended by {finish!r}")
    ended = finish == "stop"
    sampled, limit = len(tokens), request.params.max_new_tokens
    if sampled > limit or (ended and (not tokens or tokens[-1] not in stop_ids)):
        raise ServerFailed(
            f"A reply of the vLLM server ends in other ways than asked: {sampled} tokens of at most {limit}, reason "
            f"{finish!r}, last token {tokens[-1:]}, to stop at {sorted(stop_ids)}. Use the tested version, or "
            "--engine local."
        )
    return Completion(
        token_ids=tuple(tokens[:-1] if ended else tokens),
        stop_reason=_STOP_REASONS[finish],
        prompt_tokens=len(request.prompt_ids),
        sampled_tokens=sampled,
    )


def _message(content: bytes) -> str:
    text = content.decode("utf-8", "replace")[:2000]
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:300] or "no message"
