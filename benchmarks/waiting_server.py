"""A stand-in for vLLM that waits, then replies with random tokens: what is left of a time is the work around a server.

    python benchmarks/sampling_vllm.py --model smollm2-135m-instruct --dtype float32 --ways ours \\
        --vllm-command "python benchmarks/waiting_server.py --reply-after-s 5"

No GPU and no vLLM needed. Of the seconds that the benchmark counts, `--reply-after-s` are the server's; the rest is
Inspect's, the engine's, the scorers' and the log's, as after a batch in which all replies end together.
"""

import argparse
import asyncio
import json
from random import Random
from typing import Any

from aiohttp import web


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reply-after-s", type=float, default=5.0)
    parser.add_argument("--port", type=int, default=8000, help="as vLLM's, like the next")
    parser.add_argument("--lora-modules", nargs="*", default=[])
    options, _ = parser.parse_known_args()  # the rest of vLLM's is of no use here
    models = {"data": [{"id": "base"}, *({"id": json.loads(module)["name"]} for module in options.lora_modules)]}

    async def listed(_: web.Request) -> web.Response:
        return web.json_response(models)

    async def completed(request: web.Request) -> web.Response:
        asked = await request.json()
        await asyncio.sleep(options.reply_after_s)
        return web.json_response(reply(asked))

    app = web.Application()
    app.add_routes([web.post("/v1/completions", completed), web.get("/{path:.*}", listed)])
    web.run_app(app, host="127.0.0.1", port=options.port, print=None)


def reply(asked: dict[str, Any]) -> dict[str, Any]:
    """As many tokens as are asked for, none of them special in the embedded model's vocabulary."""
    random = Random(asked["seed"])
    choice = {
        "token_ids": [random.randrange(20, 49_000) for _ in range(asked["max_tokens"])],
        "prompt_token_ids": asked["prompt"],
        "finish_reason": "length",
    }
    return {"choices": [choice], "usage": {"prompt_tokens": len(asked["prompt"])}}


if __name__ == "__main__":
    main()
