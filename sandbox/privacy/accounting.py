"""Accounting: exact points (rho, delta), converted for people once, always rounded against us.

A loss (rho, delta) is (approximate) zero-concentrated differential privacy; losses add under fully adaptive
composition (Bun and Steinke 2016, lemma 8.2; Whitehouse et al. 2023 for filters).  People read (epsilon, delta): half
of their delta pays for thresholds inside, the other half for the conversion of rho.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import lru_cache

from sandbox.errors import BudgetExhaustedError, ExactError
from sandbox.model.exact import decimal_text, format_exact
from sandbox.model.loss import NO_LOSS, PrivacyLoss

DISPLAY_DELTA = Fraction(1, 10**7)
"""The delta that an epsilon is shown for when a loss has none of its own."""

_DIGITS = 50
_DOWN = Context(prec=_DIGITS, rounding=ROUND_FLOOR, Emin=-999_999, Emax=999_999)
_UP = Context(prec=_DIGITS, rounding=ROUND_CEILING, Emin=-999_999, Emax=999_999)
_MICRO = 10**6
_LARGEST_FLOAT = Fraction(10**300)


def loss_from_epsilon(epsilon: Fraction, delta: Fraction) -> PrivacyLoss:
    """Return the largest loss on a grid of nine digits that is within (epsilon, delta).

    Half of delta is kept for thresholds; rho at the other half gives at most epsilon.

    Raises:
        ExactError: epsilon is not positive (or above 1000), or delta is not strictly between 0 and 1.

    Privacy: any rho-zCDP mechanism that fails with probability delta/2 is (epsilon, delta)-differentially private.
    """
    if not 0 < epsilon <= 1000 or not 0 < delta < 1:
        raise ExactError("epsilon must lie in (0, 1000] and delta in (0, 1)", hint='as in epsilon "1" and delta "1e-6"')
    half = delta / 2
    lower, upper = Fraction(0), epsilon
    for _ in range(64):
        middle = (lower + upper) / 2
        if epsilon_at(middle, half) <= epsilon:
            lower = middle
        else:
            upper = middle
    rho = _nine_digits_down(lower)
    if epsilon_at(rho, half) > epsilon:
        raise AssertionError("rounding down raised the loss")
    return PrivacyLoss(rho, half)


def epsilon_of(loss: PrivacyLoss, delta: Fraction) -> Fraction:
    """Return the epsilon of a loss at a total delta, rounded up to millionths.

    Args:
        loss: the loss; its own delta is part of the total.
        delta: the total; the rest beside the loss's own pays for the conversion of rho.

    Raises:
        ExactError: nothing of delta is left for the conversion.
    """
    rest = delta - loss.delta
    if loss.rho == 0 and rest >= 0:
        return Fraction(0)
    if not 0 < rest < 1:
        raise ExactError("delta must be above the loss's own delta and below 1", hint="ask at a larger delta")
    exact = epsilon_at(loss.rho, rest)
    return Fraction(math.ceil(exact * _MICRO), _MICRO)


def people_loss(loss: PrivacyLoss) -> tuple[str, str]:
    """Return (epsilon, delta) as people read a loss: at twice its own delta, or at 1e-7 where it has none."""
    total = min(2 * loss.delta, Fraction(999_999, _MICRO)) if loss.delta > 0 else DISPLAY_DELTA
    if total <= loss.delta:
        return "unbounded", "1"
    return decimal_text(epsilon_of(loss, total), round_up=True), _scientific_up(total)


@lru_cache(maxsize=1024)
def epsilon_at(rho: Fraction, delta: Fraction) -> Fraction:
    """Return an upper bound on epsilon for rho-zCDP at `delta`, close to the best of its kind.

    For every alpha > 1, rho-zCDP gives epsilon = alpha rho + ln(1/(alpha delta)) / (alpha - 1) + ln(1 - 1/alpha).
    Any alpha is valid, so a search in floats only affects tightness; the formula itself is evaluated in decimal
    arithmetic with directed rounding.

    Source: Canonne, Kamath, Steinke 2020, proposition 12 (arXiv 2004.00010).
    """
    if rho == 0:
        return Fraction(0)
    best = _best_alpha(float(min(rho, _LARGEST_FLOAT)), math.log(delta.denominator) - math.log(delta.numerator))
    return max(Fraction(0), _epsilon_for(rho, delta, best))


def _best_alpha(rho: float, log_inverse_delta: float) -> Fraction:
    def value(x: float) -> float:
        excess = math.exp(x)
        alpha = 1 + excess
        return alpha * rho + (log_inverse_delta - math.log(alpha)) / excess + math.log(excess) - math.log(alpha)

    lower, upper = -30.0, 60.0
    for _ in range(200):
        third = (upper - lower) / 3
        if value(lower + third) <= value(upper - third):
            upper -= third
        else:
            lower += third
    return 1 + Fraction(math.exp((lower + upper) / 2))


def _epsilon_for(rho: Fraction, delta: Fraction, alpha: Fraction) -> Fraction:
    excess = alpha - 1
    mixture = -_log_down(alpha * delta) / excess
    return alpha * rho + mixture + _log_up(excess / alpha)


def _log_up(amount: Fraction) -> Fraction:
    # ln in the decimal module is correctly rounded to nearest; one more unit in the last place makes it a bound.
    ratio = _UP.divide(Decimal(amount.numerator), Decimal(amount.denominator))
    return Fraction(_UP.next_plus(_UP.ln(ratio)))


def _log_down(amount: Fraction) -> Fraction:
    ratio = _DOWN.divide(Decimal(amount.numerator), Decimal(amount.denominator))
    return Fraction(_DOWN.next_minus(_DOWN.ln(ratio)))


def _nine_digits_down(amount: Fraction) -> Fraction:
    if amount <= 0:
        return Fraction(0)
    exponent = _exponent(amount) - 8
    step = Fraction(10) ** exponent
    return math.floor(amount / step) * step


def _exponent(amount: Fraction) -> int:
    """Return the power of ten at or below a positive amount; floats end at 1e-324."""
    exponent = len(str(amount.numerator)) - len(str(amount.denominator))
    return exponent if Fraction(10) ** exponent <= amount else exponent - 1


def _scientific_up(amount: Fraction) -> str:
    exponent = _exponent(amount)
    digits = math.ceil(amount / Fraction(10) ** exponent * 1000)
    text = decimal_text(Fraction(digits, 1000), digits=3)
    return f"{text}e{exponent}"


class JobFilter:
    """The account of one job: questions may depend on answers, the sum of losses never passes the limit.

    Privacy: a fully adaptive filter.  Each answer's loss is fixed before it is computed, losses add in rho and in
    delta, and nothing is refunded; so everything the job releases together costs at most the limit.  After the first
    refusal every later request is refused, which keeps the rule independent of what the program does next.

    Source: Whitehouse, Ramdas, Rogers, Wu 2023, theorem 1 (arXiv 2203.05481), for zCDP; delta by a union bound.
    """

    def __init__(self, limit: PrivacyLoss, *, account: str = "job") -> None:
        self._limit = limit
        self._account = account
        self._spent = NO_LOSS
        self._closed = False

    @property
    def spent(self) -> PrivacyLoss:
        """What has been charged so far."""
        return self._spent

    @property
    def remaining(self) -> PrivacyLoss:
        """What may still be charged."""
        return self._limit.minus(self._spent)

    @property
    def closed(self) -> bool:
        """Whether a request was refused."""
        return self._closed

    def request(self, loss: PrivacyLoss) -> None:
        """Charge a loss, or refuse it and every later one.

        Raises:
            BudgetExhaustedError: the loss does not fit what remains, or an earlier one did not.
        """
        if self._closed or not loss.fits(self.remaining):
            self._closed = True
            raise BudgetExhaustedError(
                "the question asks for more loss than the job has left",
                hint="submit a job with a larger loss, or ask for less in each question",
                account=self._account,
                requested={"rho": format_exact(loss.rho), "delta": format_exact(loss.delta)},
                remaining=self.remaining.to_record(),
            )
        self._spent = self._spent + loss
