"""How often the interval of AUROC holds the truth, over sizes, clustering, areas, and yes-or-no scores.

    python benchmarks/auroc_coverage.py --repeats 500

Scores are normal, or cut to yes and no. Replies to a prompt share a part of their score: `shared` of the variance is
common to both sides of a prompt, `own` to the replies on one side of it.
"""

import argparse
import itertools
import math

import numpy as np
from scipy.stats import norm

from ostensible.analysis.roc import Side, auroc

PROMPTS = (20, 50, 100, 400)
CLUSTERING = ((1, 0.0, 0.0), (1, 0.7, 0.0), (4, 0.0, 0.8))
AREAS = (0.5, 0.9, 0.97, 0.995)
RATES = ((0.02, 0.02), (0.3, 0.1), (0.98, 0.01), (1.0, 0.001), (1.0, 0.01))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=500)
    repeats = parser.parse_args().repeats
    print("prompts replies shared  own  truth                    coverage  mean width")
    for prompts, (replies, shared, own) in itertools.product(PROMPTS, CLUSTERING):
        for kind in (*AREAS, *RATES):
            inside, width = coverage(prompts, replies, shared, own, kind, repeats)
            name = f"AUROC {kind}" if isinstance(kind, float) else f"yes in {kind[0]:.3g} and {kind[1]:.3g}"
            print(f"{prompts:>7} {replies:>7} {shared:>6} {own:>4}  {name:<24} {inside:>8.3f} {width:>11.4f}")


def coverage(prompts, replies, shared, own, kind, repeats) -> tuple[float, float]:
    """Share of intervals that hold the truth, and their mean width."""
    rng, inside, widths = np.random.default_rng(0), 0, []
    truth = kind if isinstance(kind, float) else 0.5 + (kind[0] - kind[1]) / 2
    of = np.repeat(np.arange(prompts), replies)
    for _ in range(repeats):
        common = rng.normal(0, math.sqrt(shared), prompts)
        sides = [
            common[of]
            + rng.normal(0, math.sqrt(own), prompts)[of]
            + rng.normal(0, math.sqrt(1 - shared - own), len(of))
            for _ in range(2)
        ]
        if isinstance(kind, float):
            sides[0] += math.sqrt(2) * norm.ppf(kind)
        else:
            sides = [(side < norm.ppf(rate)).astype(float) for side, rate in zip(sides, kind, strict=True)]
        found = auroc(*(Side(side, of) for side in sides))
        inside += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    return inside / repeats, float(np.mean(widths))


if __name__ == "__main__":
    main()
