"""A checked question: what is asked of which table, with nothing of the SQL text left in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sandbox.model.exact import format_exact
from sandbox.model.unit import ContributionBound, OtherUnit
from sandbox.privacy.algebra import Expr
from sandbox.privacy.joined import Joined, Reads, reads_of


class KeyMode(StrEnum):
    """`none`: one group.  `public`: every key is released.  `private`: keys pass a threshold."""

    NONE = "none"
    PUBLIC = "public"
    PRIVATE = "private"


class AggregateKind(StrEnum):
    """What is computed over the rows of a group."""

    COUNT = "count"
    UNITS = "units"
    SUM = "sum"
    MEAN = "mean"
    VARIANCE = "variance"
    DEVIATION = "deviation"
    COVARIANCE = "covariance"
    CORRELATION = "correlation"
    QUANTILE = "quantile"
    DISTINCT = "distinct"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate.

    Attributes:
        kind: what is computed.
        argument: what it is computed of, and whose NULLs are left out; None for COUNT(*) and for counting units.
        moments: what is averaged besides, for a variance or a covariance (`moments.py`).
        population: whether a variance divides by n and not by n - 1.
        fraction: which quantile.
    """

    kind: AggregateKind
    argument: Expr | None = None
    moments: tuple[Expr, ...] = ()
    population: bool = False
    fraction: Fraction | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the aggregate as a canonical record."""
        return {
            "kind": self.kind.value,
            "argument": None if self.argument is None else self.argument.to_record(),
            "moments": [moment.to_record() for moment in self.moments],
            "population": self.population,
            "fraction": None if self.fraction is None else format_exact(self.fraction),
        }


class FormulaOp(StrEnum):
    """Arithmetic on the values of one released row."""

    AGGREGATE = "aggregate"
    LITERAL = "literal"
    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"


@dataclass(frozen=True, slots=True)
class Formula:
    """One value of a released row: an aggregate, or arithmetic between aggregates and literals.

    Attributes:
        op: what it does.
        args: what it does it to.
        index: which aggregate, for AGGREGATE.
        amount: for LITERAL.
    """

    op: FormulaOp
    args: tuple[Formula, ...] = ()
    index: int | None = None
    amount: Fraction | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the formula as a canonical record."""
        return {
            "op": self.op.value,
            "args": [argument.to_record() for argument in self.args],
            "index": self.index,
            "amount": None if self.amount is None else format_exact(self.amount),
        }

    def aggregates(self) -> frozenset[int]:
        """Return the indexes of the aggregates that it names."""
        own = frozenset() if self.index is None else frozenset({self.index})
        return own.union(*(argument.aggregates() for argument in self.args))


@dataclass(frozen=True, slots=True)
class GroupKey:
    """One group key.

    Attributes:
        expr: what groups rows.
        domain: every value it can take, as key texts in order (None for NULL), or None where that is private.
    """

    expr: Expr
    domain: tuple[str | None, ...] | None


@dataclass(frozen=True, slots=True)
class Label:
    """A name and what people read for it."""

    name: str
    label_en: str
    label_zh: str
    measure_en: str = ""
    measure_zh: str = ""

    def to_record(self) -> dict[str, str]:
        """Return the label as a canonical record."""
        return {
            "name": self.name,
            "label_en": self.label_en,
            "label_zh": self.label_zh,
            "measure_en": self.measure_en,
            "measure_zh": self.measure_zh,
        }


@dataclass(frozen=True, slots=True)
class Slot:
    """A key or a formula by its index: what an output, a HAVING or an ORDER BY refers to."""

    is_key: bool
    index: int

    def to_record(self) -> dict[str, Any]:
        """Return the slot as a canonical record."""
        return {"is_key": self.is_key, "index": self.index}


@dataclass(frozen=True, slots=True)
class Output:
    """One column of the answer."""

    label: Label
    slot: Slot

    def to_record(self) -> dict[str, Any]:
        """Return the output as a canonical record."""
        return {"label": self.label.to_record(), "slot": self.slot.to_record()}


class ConditionOp(StrEnum):
    """What a HAVING may say of a released row."""

    AND = "and"
    OR = "or"
    NOT = "not"
    EQUAL = "equal"
    LESS = "less"
    LESS_EQUAL = "less_equal"
    IS_NULL = "is_null"
    IN = "in"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a released row: logic over conditions, or a slot or a literal beside literals.

    Attributes:
        op: what it says.
        args: conditions, for AND, OR and NOT.
        slot: what is compared, otherwise.
        literals: what it is compared with: a number, or a key's text.
        flipped: whether the literal stands on the left of LESS or LESS_EQUAL.
    """

    op: ConditionOp
    args: tuple[Condition, ...] = ()
    slot: Slot | None = None
    literals: tuple[Fraction | str, ...] = ()
    flipped: bool = False

    def to_record(self) -> dict[str, Any]:
        """Return the condition as a canonical record."""
        return {
            "op": self.op.value,
            "args": [argument.to_record() for argument in self.args],
            "slot": None if self.slot is None else self.slot.to_record(),
            "literals": [{"text": v} if isinstance(v, str) else {"number": format_exact(v)} for v in self.literals],
            "flipped": self.flipped,
        }


@dataclass(frozen=True, slots=True)
class Order:
    """One term of ORDER BY."""

    slot: Slot
    descending: bool
    nulls_first: bool

    def to_record(self) -> dict[str, Any]:
        """Return the term as a canonical record."""
        return {"slot": self.slot.to_record(), "descending": self.descending, "nulls_first": self.nulls_first}


@dataclass(frozen=True, slots=True)
class Finish:
    """What is done with the noisy answer: pure post-processing, which costs nothing.

    Attributes:
        having: which rows stay, or None for all.
        order: how they are sorted; ties and no order at all: by the keys.
        limit, offset: how many stay, and how many are skipped.
    """

    having: Condition | None = None
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0

    def to_record(self) -> dict[str, Any]:
        """Return the post-processing as a canonical record."""
        return {
            "having": None if self.having is None else self.having.to_record(),
            "order": [term.to_record() for term in self.order],
            "limit": self.limit,
            "offset": self.offset,
        }


class Bounding(StrEnum):
    """`sample`: rows of low rank count.  `rescale`: all rows count, and a unit that brings too much counts for less."""

    SAMPLE = "sample"
    RESCALE = "rescale"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a question says of itself at its end.

    Attributes:
        bounding: how the contribution bound is kept.
        weights: how the loss is split over the value columns, in their order; none for evenly over statistics.
        suppress: the half-width of an interval, as a share of its value, above which a value is not shown; or None.
        nonnegative: whether counts, and totals of what is never negative, are cut off at zero.
        rounded: whether values are rounded to the size of their standard error.
        top: whether the first groups are chosen by report-noisy-max, and only those are counted (`top.py`).
        quantile: whether the one quantile is chosen by report-noisy-max (`chosen_quantile.py`).
        consistent: whether cells and totals are made to add up.
        laplace, pure_loss: whether noise is discrete Laplace, and the epsilon it may have at most (`laplace.py`).
    """

    bounding: Bounding = Bounding.SAMPLE
    weights: tuple[Fraction, ...] = ()
    suppress: Fraction | None = None
    nonnegative: bool = False
    rounded: bool = False
    top: bool = False
    quantile: bool = False
    consistent: bool = False
    laplace: bool = False
    pure_loss: Fraction | None = None

    @property
    def changes_values(self) -> bool:
        """Whether a value may be shown otherwise than it was found (`showing.py`)."""
        return self.suppress is not None or self.nonnegative or self.rounded

    def to_record(self) -> dict[str, Any]:
        """Return the settings as a canonical record."""
        return {
            "bounding": self.bounding.value,
            "weights": [format_exact(weight) for weight in self.weights],
            "suppress": None if self.suppress is None else format_exact(self.suppress),
            "nonnegative": self.nonnegative,
            "rounded": self.rounded,
            "top": self.top,
            "quantile": self.quantile,
            "consistent": self.consistent,
            **({"noise": "laplace"} if self.laplace else {}),  # Other plans keep their digests.
            **({} if self.pure_loss is None else {"pure_loss": format_exact(self.pure_loss)}),
        }


PLAIN_SETTINGS = Settings()


@dataclass(frozen=True, slots=True)
class CheckedQuery:
    """A question that is in the language, over one described table or a join of several.

    Attributes:
        dataset, table: which table.
        unit_kind: whom the promise protects.
        columns: the columns it reads, sorted (the unit's key is always sealed with the table and not listed).
        filter: which rows count, or None for all.
        keys: the group keys.
        key_mode: how keys are released.
        aggregates: what is computed, each one once.
        formulas: the values of a row, each one once; slots name them.
        outputs: the columns of the answer.
        finish: the post-processing.
        bound: the contribution bound that holds.
        max_rows: the public ceiling on rows.
        source: the SQL of a first step that makes one row a unit, over a partition called `t`, or of a join over `t`,
            `u` and so on; None where the question is about the rows themselves.
        joined: what is joined to the table, or None.
        others: further kinds of units that the table protects.
        settings: how it is bounded, weighed and shown.
        levels: which keys are kept at each level that is measured, all of them first; none without totals.
    """

    dataset: str
    table: str
    unit_kind: str
    columns: tuple[str, ...]
    filter: Expr | None
    keys: tuple[GroupKey, ...]
    key_mode: KeyMode
    aggregates: tuple[Aggregate, ...]
    formulas: tuple[Formula, ...]
    outputs: tuple[Output, ...]
    finish: Finish
    bound: ContributionBound
    max_rows: int
    source: str | None = None
    settings: Settings = PLAIN_SETTINGS
    levels: tuple[tuple[int, ...], ...] = ()
    joined: Joined | None = None
    others: tuple[OtherUnit, ...] = ()

    @property
    def reads(self) -> Reads:
        """The columns that it reads of each dataset."""
        return reads_of(self.dataset, self.columns, self.joined)

    @property
    def rolled(self) -> bool:
        """Whether totals are measured beside the cells."""
        return bool(self.levels)
