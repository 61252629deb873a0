"""Draws replies with llama.cpp, for benchmarks/sampling.py. Needs the package `xllamacpp`, which holds a build of it.

Reads token ids of prompts as JSON on stdin; writes tokens and seconds, loading and warming up left out, as JSON. All
requests are given at once to its server, which keeps `--slots` of them under way.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xllamacpp  # pyright: ignore[reportMissingImports]


def main() -> None:
    options = parse()
    prompts: list[list[int]] = json.load(sys.stdin)
    out = os.dup(1)
    os.dup2(2, 1)  # the server writes its log there
    longest = max(map(len, prompts)) + options.max_new_tokens
    params: Any = xllamacpp.CommonParams()
    params.model.path = options.gguf
    params.n_parallel, params.n_ctx = options.slots, options.slots * longest
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    server: Any = xllamacpp.Server(params)

    def draw(at: int, limit: int) -> int:
        asked = {
            "prompt": prompts[at], "n_predict": limit, "seed": options.seed + at, "cache_prompt": True,
            "temperature": options.temperature, "top_p": options.top_p, "top_k": options.top_k, "min_p": 0.0,
        }  # fmt: skip
        found = server.handle_completions(asked)
        return int(found["usage"]["completion_tokens"])

    draw(0, 8)
    began = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        tokens = sum(pool.map(lambda at: draw(at, options.max_new_tokens), range(len(prompts))))
    seconds = time.perf_counter() - began
    os.write(out, json.dumps({"tokens": tokens, "seconds": seconds}).encode())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", required=True)
    for name in ("slots", "threads", "max-new-tokens", "seed", "top-k"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("temperature", "top-p"):
        parser.add_argument(f"--{name}", type=float, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
