"""The load benchmark, at a size that says nothing of load: it runs, and its figures are of what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks/load.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_load_benchmark_measures_every_stage_of_a_whole_run(tmp_path):
    command = [sys.executable, str(SCRIPT), "--sizes", "3", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["by_size"].values()
    stages = {path.stem for path in (tmp_path / "run-3/stages").glob("*.json")}
    assert {"evaluate", "report"} <= stages == set(found["seconds"]) == set(found["peak_gib"])
    assert found["replies"] == 3 * 7
    assert 0.1 < found["peak_gib"]["evaluate"] < 4
    assert found["cpu_s"]["evaluate"] > 0
