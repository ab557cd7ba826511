"""What people read above the columns of an answer, in English and Chinese."""

from __future__ import annotations

from fractions import Fraction

from sandbox.model.description import Column, DatasetDescription
from sandbox.privacy.algebra import Expr, Op, column_names
from sandbox.privacy.query import Aggregate, AggregateKind, Label

_PART_LABELS = {
    "year": ("year of", "年份"),
    "quarter": ("quarter of", "季度"),
    "month": ("month of", "月份"),
    "day": ("day of", "日"),
    "isodow": ("day of the week of", "星期"),
    "week": ("week of", "周"),
}

_WORDS = {
    AggregateKind.SUM: ("sum", "total of", "合计"),
    AggregateKind.MEAN: ("avg", "mean of", "平均"),
    AggregateKind.VARIANCE: ("var", "variance of", "方差"),
    AggregateKind.DEVIATION: ("stddev", "standard deviation of", "标准差"),
    AggregateKind.COVARIANCE: ("covar", "covariance of", "协方差"),
    AggregateKind.QUANTILE: ("quantile", "quantile of", "分位数"),
    AggregateKind.DISTINCT: ("distinct", "distinct values of", "不同值数"),
    AggregateKind.CORRELATION: ("corr", "correlation of", "相关系数"),
}
_SAME_MEASURE = {AggregateKind.SUM, AggregateKind.MEAN, AggregateKind.DEVIATION, AggregateKind.QUANTILE}


def key_label(description: DatasetDescription, expr: Expr, alias: str | None) -> Label:
    """Return the label of a group key."""
    column = _only_column(description, expr)
    if column is None:
        return Label(alias or "key", alias or "group", alias or "分组")
    name = alias or column.name
    if expr.op is Op.COLUMN:
        return Label(name, column.label_en, column.label_zh, column.measure_en, column.measure_zh)
    if expr.op in {Op.DATE_PART, Op.DATE_START} and expr.args[0].op is Op.COLUMN:
        english, chinese = _PART_LABELS[str(expr.value)]
        return Label(name, f"{english} {column.label_en}", f"{column.label_zh}（{chinese}）")
    return Label(name, f"group of {column.label_en}", f"{column.label_zh}（分组）")


def aggregate_label(description: DatasetDescription, aggregate: Aggregate, alias: str | None) -> Label:
    """Return the label of an aggregate."""
    unit = description.unit
    if aggregate.kind is AggregateKind.UNITS:
        return Label(alias or "units", f"number of units ({unit.kind})", f"{unit.label_zh}数")
    if aggregate.kind is AggregateKind.COUNT:
        return Label(alias or "count", "number of rows", "行数")
    name, english, chinese = _WORDS[aggregate.kind]
    if aggregate.fraction == Fraction(1, 2):
        name, english, chinese = "median", "median of", "中位数"
    assert aggregate.argument is not None
    column = _only_column(description, aggregate.argument)
    if column is None:
        return Label(alias or name, alias or name, alias or chinese)
    plain = aggregate.argument.op is Op.COLUMN and aggregate.kind in _SAME_MEASURE
    return Label(
        alias or f"{name}_{column.name}",
        f"{english} {column.label_en}",
        f"{column.label_zh}（{chinese}）",
        column.measure_en if plain else "",
        column.measure_zh if plain else "",
    )


def _only_column(description: DatasetDescription, expr: Expr) -> Column | None:
    names = sorted(column_names(expr))
    return description.column(names[0]) if len(names) == 1 else None
