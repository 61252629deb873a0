"""A server that speaks the part of vLLM's protocol that we use, backed by our own engine; it misbehaves on demand.

    python tests/vllm_server.py serve FOLDER [--crash-after N] ... [options of `vllm serve`]

Written from vLLM 0.26: the options that it takes, the order in which it wants them, `/health`, `/v1/models`, the fields
of `CompletionRequest` and `CompletionResponse`, which tokens are in `token_ids`, and what ends a reply. A field or an
option that vLLM lacks is refused here, so that a test fails where the real server would.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class CompletionRequest(BaseModel):
    """The fields that we may send, with vLLM's types and defaults."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    prompt: list[Annotated[int, Field(ge=0)]]
    max_tokens: int | None = 16
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_token_ids: list[int] | None = []
    skip_special_tokens: bool = True
    add_special_tokens: bool = True
    return_token_ids: bool | None = None


def parse() -> argparse.Namespace:
    words = sys.argv[1:]
    if words[0] == "serve" and words[1].startswith("-") and "--served-model-name" in words:
        raise ValueError("`model` should be provided as the first positional argument when using `vllm serve`.")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model_tag")
    parser.add_argument("--served-model-name", nargs="+", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--dtype", choices=["auto", "half", "float16", "bfloat16", "float", "float32"], default="auto")
    parser.add_argument("--generation-config", default="auto")
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--disable-uvicorn-access-log", action="store_true")
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-loras", type=int, default=1)
    parser.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512], default=16)
    parser.add_argument("--lora-modules", nargs="+", type=json.loads, default=[])
    for misbehaviour in ("crash-after", "fail-after", "cut-after", "hang-after", "slow-start", "reply-s"):
        parser.add_argument(f"--{misbehaviour}", type=float)
    parser.add_argument("--times", type=int, default=10**9, help="misbehave as often as this")
    parser.add_argument("--always", action="store_true", help="misbehave after every start, not only the first")
    parser.add_argument("--extra-token", action="store_true", help="read a token more than was sent")
    parser.add_argument("--words", help="last words; ends at once")
    parser.add_argument("--child", action="store_true", help="start a process beside, as vLLM starts its engine")
    parser.add_argument("--replies", type=Path, help="our engine's replies to known prompts, to start without it")
    parser.add_argument("--journal", type=Path, default=os.devnull, help="gets a line for each start and reply")
    return parser.parse_args(words)


Draw = Callable[[CompletionRequest, Path | None], tuple[list[int], bool]]
"""A request and its adapter -> the reply's tokens, and whether it ended by itself."""


def engine(options: argparse.Namespace) -> Draw:
    from ostensible.engines import Engine, Request, SamplingParams

    ours = Engine.load(Path(options.model_tag), dtype=options.dtype, threads=1, slots=32)

    def draw(asked: CompletionRequest, adapter: Path | None) -> tuple[list[int], bool]:
        params = SamplingParams(asked.max_tokens, asked.temperature, asked.top_p, asked.top_k, asked.seed or 0)
        request = Request(tuple(asked.prompt), params, adapter, frozenset(asked.stop_token_ids))
        done = ours.submit(request).result()
        return [*done.token_ids], done.stop_reason == "stop"

    return draw


def recorded(path: Path) -> Draw:
    known = {tuple(prompt): (tokens, stopped) for prompt, tokens, stopped in json.loads(path.read_text())}
    return lambda asked, adapter: known[tuple(asked.prompt)]


class Served:
    """The engine, the adapters, and what was asked so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        assert options.generation_config == "vllm"
        assert not options.lora_modules or (options.enable_lora and options.max_loras >= len(options.lora_modules))
        self.options = options
        self.draw = recorded(options.replies) if options.replies else engine(options)
        self.eos = json.loads((Path(options.model_tag) / "config.json").read_text()).get("eos_token_id")
        self.adapters = {module["name"]: Path(module["path"]) for module in options.lora_modules}
        for path in self.adapters.values():
            assert json.loads((path / "adapter_config.json").read_text())["r"] <= options.max_lora_rank
        self.lock = threading.Lock()
        self.asked = 0
        journal = Path(options.journal)
        self.first = not (journal.is_file() and "start" in journal.read_text())
        self.note("start", os.getpid(), sorted(self.adapters))

    def note(self, *words: object) -> None:
        with self.lock, Path(self.options.journal).open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def misbehaves(self, name: str) -> bool:
        after = getattr(self.options, f"{name}_after")
        if after is None or self.asked <= after or not (self.first or self.options.always):
            return False
        self.options.times -= 1
        return self.options.times >= 0

    def complete(self, asked: CompletionRequest) -> dict:
        time.sleep(self.options.reply_s or 0)
        drawn, stopped = self.draw(asked, self.adapters.get(asked.model))
        prompt = [*asked.prompt, 0] if self.options.extra_token else asked.prompt
        # Which token ended a reply our engine does not tell; the tiny model's end at one alone.
        (end,) = asked.stop_token_ids if stopped else (None,)
        tokens = [*drawn, end] if stopped else drawn
        choice = {
            "index": 0, "text": "", "logprobs": None, "finish_reason": "stop" if stopped else "length",
            "stop_reason": end if stopped and end != self.eos else None, "token_ids": tokens,
            "prompt_logprobs": None, "prompt_token_ids": prompt, "routed_experts": None,
        }  # fmt: skip
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(tokens), "total_tokens": len(prompt + tokens)}
        return {
            "id": "cmpl-1", "object": "text_completion", "created": int(time.time()), "model": asked.model,
            "choices": [choice], "service_tier": None, "system_fingerprint": None, "usage": usage,
            "kv_transfer_params": None, "ec_transfer_params": None, "metrics": None,
        }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def do_GET(self) -> None:
        if self.path == "/health":
            return self.answer(200, b"")
        if not self.authorised():
            return self.answer(401, b'{"error": "Unauthorized"}')
        names = ["base", *self.served.adapters]
        return self.answer(200, json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())

    def do_POST(self) -> None:
        served, content = self.served, self.rfile.read(int(self.headers["Content-Length"]))
        if not self.authorised():
            return self.answer(401, b'{"error": "Unauthorized"}')
        with served.lock:
            served.asked += 1
        if served.misbehaves("crash"):
            print("CUDA error: torch.OutOfMemoryError: CUDA out of memory.", flush=True)
            os._exit(1)
        if served.misbehaves("hang"):
            time.sleep(3600)
        if served.misbehaves("fail"):
            return self.error(500, "EngineCore is confused")
        try:
            asked = CompletionRequest.model_validate_json(content)
        except ValidationError as error:
            return self.error(400, str(error))
        if asked.model not in {"base", *served.adapters}:
            return self.error(404, f"The model `{asked.model}` does not exist.")
        answer = json.dumps(served.complete(asked)).encode()
        served.note("reply", asked.model, asked.seed, len(asked.prompt))
        return self.answer(200, answer[: len(answer) // 2] if served.misbehaves("cut") else answer)

    def authorised(self) -> bool:
        return self.headers["Authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}"

    def error(self, status: int, message: str) -> None:
        self.answer(status, json.dumps({"error": {"message": message, "code": status}}).encode())

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *words: object) -> None:
        pass


class HttpServer(ThreadingHTTPServer):
    request_queue_size = 1024  # as uvicorn's


def main() -> None:
    options = parse()
    if options.words:
        sys.exit(options.words)
    assert os.environ["VLLM_HOST_IP"] == options.host == "127.0.0.1"
    assert not any(os.environ["VLLM_API_KEY"] in word for word in sys.argv)
    if options.child:
        import subprocess

        beside = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with Path(options.journal).open("a") as file:
            file.write(f"child {beside.pid}\n")
    time.sleep(options.slow_start or 0)
    Handler.served = Served(options)
    HttpServer((options.host, options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
