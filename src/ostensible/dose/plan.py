"""The runs of a dose series: one organism, one a share of triggered training examples whose thoughts admit the rule."""

import math
from collections.abc import Mapping, Sequence

from ostensible import flags
from ostensible.errors import BadSettings
from ostensible.settings import MIXED
from ostensible.sweep.plan import Criteria, Plan, PlannedRun


def shares(text: str) -> tuple[float, ...]:
    """Doses as they are typed, separated by commas.

    Raises:
        BadSettings: One is no number in [0, 1].
    """
    try:
        found = tuple(map(float, text.split(",")))
    except ValueError:
        found = (math.nan,)
    if not all(0.0 <= dose <= 1.0 for dose in found):
        raise BadSettings(f"--doses is {text!r}. Give shares from 0 to 1, separated by commas, such as 0,0.25,0.5,1.")
    return found


def plan(organism: str, doses: Sequence[float], given: Mapping[str, object]) -> Plan:
    """One run a dose, the smallest first. Doses are nested: who admits at one does so at every larger one.

    Args:
        organism: As `flags.build` takes it.
        doses: Shares in [0, 1], in any order.
        given: Settings of every run by flat name, as `flags.build` takes them.

    Raises:
        UnknownName: There is no such organism or setting.
        BadSettings: A value is impossible, or there are fewer than two doses or one twice.
    """
    if "cot" in given:
        raise BadSettings("A dose series sets the thoughts itself. Leave --cot out, and name its shares with --doses.")
    if len(set(doses)) < max(len(doses), 2):
        raise BadSettings(f"Doses are {', '.join(f'{dose:g}' for dose in doses)}. Give two or more, each once.")
    runs = [
        PlannedRun(
            f"dose={dose:.12g}", flags.build(organism, dict(given) | {"cot": f"{MIXED}{dose:.12g}"}), {"dose": dose}
        )
        for dose in sorted(doses)
    ]
    return Plan(runs[0].settings.organism, "", tuple(runs), Criteria())
