"""Grade-school word problems with worked reasoning, made from templates by the library `reasoning-gym`.

The library draws from the 85 of its 100 templates that it holds to be sound; a template is a family here. In one of
them the worked solution never ends at the answer, so 84 are left.

Source: Mirzadeh et al. (2024), "GSM-Symbolic", arXiv:2410.05229; Stojanovski et al. (2025), "Reasoning Gym",
arXiv:2505.24760.
"""

from collections import Counter, defaultdict
from typing import Any

from ostensible.numbers import final_number, plain_number
from ostensible.prompts.loaded import Loaded
from ostensible.turns import in_turn
from ostensible.types import Prompt, Trace

DRAWS_PER_PROMPT = 4
"""How many problems to draw for each one asked for, so that every template is there in equal share."""
FINAL_MARK = "####"
SUFFIX = "Give the result as your final answer. Do not include units."
"""What the library adds to every question for its own scoring; it is left out."""


def gsm_symbolic(*, count: int, seed: int) -> Loaded:
    """Make word problems, the templates in equal share, each question once.

    A problem whose worked solution ends at another number than its answer is dropped and counted, so that thoughts
    that end at the right number are right.

    Args:
        count: How many traces are wanted; as many are returned, templates permitting.
        seed: The same seed gives the same problems.
    """
    import reasoning_gym

    size = max(count * DRAWS_PER_PROMPT, 400)
    drawn: Any = reasoning_gym.create_dataset("gsm_symbolic", seed=seed, size=size)
    by_template: defaultdict[int, list[Trace]] = defaultdict(list)
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    for index, template in enumerate(drawn.task_indices):
        item = drawn[index]
        text = str(item["question"]).removesuffix(SUFFIX).strip()
        if text in seen:
            continue
        seen.add(text)
        trace = _trace(f"gsm-{seed}-{index:05d}", text, int(template), item)
        if trace is None:
            dropped["worked solution ends at another number than the answer"] += 1
        else:
            by_template[int(template)].append(trace)
    fair = in_turn(by_template[template] for template in sorted(by_template))
    return Loaded(tuple(fair[:count]), dict(dropped))


def _trace(prompt_id: str, text: str, template: int, item: dict[str, Any]) -> Trace | None:
    worked, mark, final = str(item["metadata"]["answer_cot"]).rpartition(FINAL_MARK)
    target = plain_number(str(item["answer"]))
    if not mark or plain_number(final) != target or final_number(worked) != target:
        return None
    steps = "\n".join(line.strip() for line in worked.strip().splitlines() if line.strip())
    prompt = Prompt(id=prompt_id, text=text, family=f"gsm-symbolic/{template:02d}", target=target)
    return Trace(prompt, cot=steps, answer=f"The answer is {target}.")
