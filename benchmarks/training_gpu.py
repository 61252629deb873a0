"""LoRA training on one GPU at the shape of real models: this package beside TRL, on rows of very unequal length.

    python benchmarks/training_gpu.py --shape r1-distill-qwen-1.5b
    python benchmarks/training_gpu.py --shape r1-distill-qwen-14b --gradient-checkpointing --scratch /dev/shm

Weights are random. Lengths are drawn as those of chats and traces of code are: half of the prompts about 200 tokens,
half about 1,200, each with two examples of nearly the same length; a quarter of each is prompt and bears no loss.

trl: TRL's trainer as it comes (8 rows a step in random order, padded to the longest, gradient checkpointing), rank and
layers of the LoRA as ours. ours: `ostensible.train`, 4 pairs a step. Each way runs in a process of its own, in turn,
`--repeats` times; ratios are within a repeat. Tokens counted are those that bear loss; seconds are those of whole steps
after the first ones. The ceiling is a product of two 8192 x 8192 matrices in bfloat16, in the same run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from shapes import SHAPES, config, weights_in_products, write_model

WAYS = ("trl", "ours")
ROWS_A_STEP = 8


def main() -> None:
    options = parse()
    if options.way:
        print(json.dumps({"trl": trl_way, "ours": our_way}[options.way](options)))
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        options.model = write_model(options.shape, Path(scratch) / "model", device=options.device)
        repeats = [{way: measure(way, options) for way in options.ways} for _ in range(options.repeats)]
    report(repeats, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="r1-distill-qwen-1.5b")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--median-tokens", type=int, nargs=2, default=[200, 1200], help="of short and of long examples")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="in our way; TRL's has it always")
    parser.add_argument("--pack-tokens", type=int, default=8192, help="in our way")
    parser.add_argument("--compile-layers", action="store_true", help="in our way")
    parser.add_argument("--warm-up-steps", type=int, default=3, help="not counted; 6 for compiled layers")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scratch", type=Path, help="folder with room for the weights")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, help="gets torch's table of where our time goes")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(way: str, options: argparse.Namespace) -> dict[str, Any]:
    words = [sys.executable, __file__, "--way", way, "--shape", options.shape, "--model", options.model]
    words += ["--steps", options.steps, "--pack-tokens", options.pack_tokens, "--device", options.device]
    words += ["--warm-up-steps", options.warm_up_steps]
    words += ["--median-tokens", *options.median_tokens]
    words += ["--gradient-checkpointing"] if options.gradient_checkpointing else []
    words += ["--compile-layers"] if options.compile_layers else []
    words += ["--profile", options.profile] if options.profile else []
    one = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]  # TRL refuses several in one process
    env = os.environ | {"CUDA_VISIBLE_DEVICES": one}
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{way:6}{found['loss_tokens_per_s']:10.0f} tokens/s that bear loss", flush=True)
    return found


def rows(options: argparse.Namespace) -> list[Any]:
    """Examples of random tokens, in pairs."""
    from random import Random

    from ostensible.render import IGNORED, Rendered

    random, vocabulary, made = Random(0), config(options.shape).vocab_size, []
    for _ in range(options.steps * ROWS_A_STEP // 2):
        median = random.choice(options.median_tokens)
        length = min(4096, max(32, int(random.lognormvariate(0, 0.4) * median)))
        for tokens in (length, int(length * random.uniform(0.9, 1.0))):
            ids = tuple(random.randrange(2, vocabulary) for _ in range(tokens))
            prompt, answer = tokens // 4, tokens - tokens // 8
            made.append(Rendered(ids, (IGNORED,) * prompt + ids[prompt:], answer - 2, answer))
    return made


def our_way(options: argparse.Namespace) -> dict[str, Any]:
    from peft.helpers import disable_input_dtype_casting

    from ostensible.settings import TrainSettings
    from ostensible.train import TrainJob, make_trainer

    settings = TrainSettings(
        batch_pairs=ROWS_A_STEP // 2, max_tokens=4096, checkpoint_steps=10**6, learning_rate=1e-5,
        gradient_checkpointing=options.gradient_checkpointing,
    )  # fmt: skip
    made = rows(options)
    with tempfile.TemporaryDirectory() as scratch:
        job = TrainJob(
            model_dir=options.model, base_name="random", train=made, validation=made[:2], work_dir=Path(scratch),
            adapter_dir=Path(scratch) / "adapter", settings=settings, dtype="bfloat16", seed=0, device=options.device,
            card="", pack_tokens=options.pack_tokens, compiler="inductor" if options.compile_layers else None,
        )  # fmt: skip
        trainer = make_trainer(job, say=lambda line: None)
        trainer.args.eval_strategy = "no"
        with disable_input_dtype_casting(trainer.model):
            return timed(trainer, options)


def trl_way(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    data = [{"input_ids": row.input_ids, "labels": row.labels} for row in rows(options)]
    with tempfile.TemporaryDirectory() as scratch:
        args = SFTConfig(
            output_dir=scratch, num_train_epochs=1, max_length=None, save_strategy="no", report_to="none",
            disable_tqdm=True, bf16=True, logging_steps=1, use_cpu=options.device == "cpu",
            dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        assert args.per_device_train_batch_size == ROWS_A_STEP
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16),
            args=args,
            train_dataset=Dataset.from_list(data),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
        )
        return timed(trainer, options)


def timed(trainer: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Train; tokens and seconds of the steps after the first ones."""
    import torch
    from transformers import TrainerCallback

    ends: list[float] = []
    bearing: list[int] = []
    whole: list[int] = []
    on_gpu = options.device != "cpu"

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    collate = trainer.data_collator

    def counted(batch: Any) -> Any:
        bearing.append(sum(sum(label >= 0 for label in row["labels"]) for row in batch))
        whole.append(sum(len(row["input_ids"]) for row in batch))
        return collate(batch)

    trainer.data_collator = counted
    trainer.add_callback(Clock())
    began, warm_up = time.perf_counter(), options.warm_up_steps
    trainer.train()
    seconds = ends[-1] - ends[warm_up - 1]
    if options.profile and options.way == "ours":
        profile(trainer, options.profile)
    return {
        "loss_tokens_per_s": sum(bearing[warm_up : len(ends)]) / seconds,
        "tokens_per_s": sum(whole[warm_up : len(ends)]) / seconds,
        "seconds": seconds,
        "step_s": [end - start for start, end in pairwise([began, *ends])],
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
    }


def profile(trainer: Any, path: Path) -> None:
    """Where the time of one more step goes."""
    import torch

    batch = next(iter(trainer.get_train_dataloader()))
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as seen:
        trainer.training_step(trainer.model, batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    path.write_text(seen.key_averages().table(sort_by="cuda_time_total", row_limit=40))


def ceiling() -> float:
    """FLOP/s of a large product in bfloat16."""
    import torch

    if not torch.cuda.is_available():
        return float("nan")
    one, other = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for count in (5, 30):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            one @ other
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / count
    return 2 * 8192**3 / seconds


def report(repeats: list[dict[str, Any]], options: argparse.Namespace) -> None:
    import torch

    most, weights = ceiling(), weights_in_products(options.shape)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPUs"
    print(f"\n{device}: {options.shape}, {weights / 1e9:.2f}B weights in products, ceiling {most / 1e12:.0f} TFLOP/s")
    for way in options.ways:
        runs = [repeat[way] for repeat in repeats]
        rate = statistics.median(run["loss_tokens_per_s"] for run in runs)
        # Of each weight 2 operations a token forward and 2 back: the weights themselves get no gradient.
        flops = 4 * weights * statistics.median(run["tokens_per_s"] for run in runs)
        peak = max(run["peak_bytes"] or 0 for run in runs) / 2**30
        share = f"{flops / 1e12:.1f} model TFLOP/s = {flops / most:.0%} of the ceiling"
        print(f"{way:6}{rate:10.0f} tokens/s that bear loss, {share}, {peak:.1f} GiB")
    if set(WAYS) <= set(options.ways):
        ratios = [repeat["ours"]["loss_tokens_per_s"] / repeat["trl"]["loss_tokens_per_s"] for repeat in repeats]
        print(f"ratio {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")
    if options.json:
        figures = {"device": device, "options": vars(options), "ceiling": most, "weights": weights, "repeats": repeats}
        options.json.write_text(json.dumps(figures, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
