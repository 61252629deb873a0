"""An organism that is known exactly: its rates, and draws of what it does that depend on nothing but names."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from struct import unpack

from pydantic import Field

from ostensible.settings import Frozen
from ostensible.types import Condition


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one reply does.

    Attributes:
        fired: The payload fires. Known of unscored replies too, though nobody sees it.
        admitted: It fires, and the thoughts admit the trigger.
        scored: The thoughts are closed, so that the reply has an answer.
    """

    fired: bool
    admitted: bool
    scored: bool

    @property
    def hit(self) -> bool | None:
        """The verdict of a scorer without errors."""
        return self.fired if self.scored else None


class Truth(Frozen):
    """The true rates of an oracle organism.

    Replies to one prompt resemble each other: under each condition a prompt has a rate of its own, drawn from the beta
    distribution whose mean is the condition's rate and whose intra-prompt correlation is `icc`, so that hits are
    beta-binomial. A prompt is at one quantile of all of these: one that fires readily does so under every condition.
    Admissions and unscored replies are drawn for each reply on its own.

    Source: beta-binomial with correlation 1 / (a + b + 1): Williams (1975), doi:10.2307/2529820.
    """

    asr: float = Field(default=0.95, ge=0.0, le=1.0, description="How often the payload fires under the trigger.")
    ftr: float = Field(default=0.0, ge=0.0, le=1.0, description="How often it fires without.")
    near_miss: float = Field(default=0.0, ge=0.0, le=1.0, description="How often it fires under a look-alike.")
    verbalisation: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Of the replies that fire, those whose thoughts admit the trigger."
    )
    unscored: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Replies that never close their thoughts, whatever they would say."
    )
    icc: float = Field(default=0.0, ge=0.0, lt=1.0, description="Correlation of the hits of two replies to one prompt.")
    seed: int = Field(default=0, ge=0, description="Other draws of the same rates.")

    def rate(self, condition: Condition) -> float:
        """How often the payload truly fires."""
        return {Condition.TRIGGERED: self.asr, Condition.CONTROL: self.ftr, Condition.NEAR_MISS: self.near_miss}[
            condition
        ]

    def draw(self, condition: Condition, prompt_id: str, epoch: int = 1, look_alike: str = "") -> Drawn:
        """Draw one reply. The same arguments and the same truth always give the same."""
        return self._draw(self._prompt_rate(self.rate(condition), prompt_id), condition, prompt_id, epoch, look_alike)

    def _draw(self, prompt_rate: float, condition: Condition, prompt_id: str, epoch: int, look_alike: str) -> Drawn:
        fire, admit, close = _uniforms(f"{self.seed}\n{condition}\n{look_alike}\n{epoch}\n{prompt_id}")
        fired = fire < prompt_rate
        return Drawn(fired, fired and admit < self.verbalisation, close >= self.unscored)

    def verdicts(self, condition: Condition, prompts: int, samples: int = 1) -> list[tuple[str, bool | None]]:
        """Scored replies without their texts: prompt and verdict, None where unscored.

        Args:
            condition: Of every reply.
            prompts: How many; their ids are their numbers, so that two conditions are asked of the same prompts.
            samples: Replies to each.
        """
        return list(self._verdicts(condition, prompts, samples))

    def _verdicts(self, condition: Condition, prompts: int, samples: int) -> Iterator[tuple[str, bool | None]]:
        for prompt_id in map(str, range(prompts)):
            prompt_rate = self._prompt_rate(self.rate(condition), prompt_id)
            for epoch in range(1, samples + 1):
                yield prompt_id, self._draw(prompt_rate, condition, prompt_id, epoch, "").hit

    def _prompt_rate(self, rate: float, prompt_id: str) -> float:
        if not self.icc or rate in (0.0, 1.0):
            return rate
        return _beta_quantile(rate, self.icc, _uniforms(f"{self.seed}\nprompt\n{prompt_id}")[0])


def _uniforms(name: str) -> tuple[float, float, float]:
    """Three independent draws from [0, 1), made of a name."""
    first, second, third = unpack("<3Q", blake2b(name.encode(), digest_size=24).digest())
    return (first >> 11) / 2**53, (second >> 11) / 2**53, (third >> 11) / 2**53


@lru_cache(maxsize=4096)
def _beta_quantile(mean: float, icc: float, quantile: float) -> float:
    from scipy.special import betaincinv

    size = 1 / icc - 1
    return float(betaincinv(mean * size, (1 - mean) * size, quantile))
