"""Check a question: SQL text and public descriptions in, a typed question out, or a refusal that names the place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

from sqlglot import exp

from sandbox.model.description import DatasetDescription
from sandbox.model.question import Question
from sandbox.privacy import build
from sandbox.privacy.aggregates import AggregateReader, bare, several_quantiles
from sandbox.privacy.algebra import Expr, Op, column_names, present_columns
from sandbox.privacy.clauses import check_clauses
from sandbox.privacy.expression import Translator
from sandbox.privacy.finish import check_finish
from sandbox.privacy.hints import names_hint
from sandbox.privacy.join import (
    BRACKETS,
    NO_JOIN,
    TOO_MANY_JOINS,
    Join,
    JoinSource,
    joint_bound,
    read_join,
    tells_groups_apart,
)
from sandbox.privacy.join_rows import JoinSide
from sandbox.privacy.joined import TABLES
from sandbox.privacy.keys import MAX_PUBLIC_CELLS, key_domain
from sandbox.privacy.labels import aggregate_label, key_label
from sandbox.privacy.lookup import join_public_tables, joined_table, public_tables
from sandbox.privacy.margins import Levels
from sandbox.privacy.margins_check import check_margins, read_grouping
from sandbox.privacy.parse import Text, known_arguments, parse_select
from sandbox.privacy.query import Bounding, CheckedQuery, GroupKey, KeyMode, Label, Output, Settings, Slot
from sandbox.privacy.render import weight
from sandbox.privacy.settings_check import check_mechanism
from sandbox.privacy.sides import Side
from sandbox.privacy.step import MAX_KEYS, UnitStep, read_step

MAX_OUTPUTS = 64
MAX_WEIGHT = 20_000
MAX_VALUES = 400
"""How many numbers one row may add to: what a row takes in memory is bounded, whatever it holds."""


def check_question(question: Question, tables: Mapping[str, DatasetDescription]) -> CheckedQuery:
    """Return the question in our own algebra, typed and bounded.

    Nothing but public descriptions is read, so what it returns and what it refuses tells nothing about rows.

    Args:
        question: the SQL text, the loss and the contribution bound that is asked for.
        tables: the descriptions, by the table's name in SQL.

    Raises:
        QueryError: the text is not in the language; `details` has `line`, `column` and `found`.
        BoundError: no finite sensitivity follows, or the bound asked for is above the dataset's.
    """
    text, select, settings = parse_select(question.sql)
    try:
        query = _Checker(text, select, tables, question).check(settings)
    except RecursionError:
        raise text.refusal(
            None, "too_deep", "the question is nested too deep", "split it into simpler questions"
        ) from None
    check_mechanism(text, select, query)
    return query


class _Checker:
    """Walks one SELECT; holds what the clauses have found so far."""

    def __init__(
        self, text: Text, select: exp.Select, tables: Mapping[str, DatasetDescription], question: Question
    ) -> None:
        self.text = text
        self.select = select
        self.question = question
        self.step: UnitStep | None = None
        self.join: Join | None = None
        self.ctes = self._ctes()
        self.public = public_tables(text, list(self.ctes.values()))
        check_clauses(text, select)
        self.description, names = self._table(tables)
        self.translator = Translator(text, self.description, names, sides=self._sides())
        joined = join_public_tables(text, select.args.get("joins") or (), self.public, self.translator)
        self.filter = self._filter(joined)
        self.keys: list[Expr] = []
        self.levels: Levels = ()
        self.items = self._items()
        self.reader = AggregateReader(
            text, self.translator, self.description.unit.sql_name, self.description.max_rows, self._item_named
        )

    def check(self, settings: Settings) -> CheckedQuery:
        self.keys = self._group(self.items)
        outputs = tuple(self._output(alias, node) for alias, node in self.items)
        self._check_outputs(outputs)
        finish = check_finish(self.text, self.select, outputs, self.slot, self.key_of)
        keys, mode = self._key_mode()
        aggregates = self.reader.aggregates
        check_margins(self.text, self.select, keys, aggregates, settings, self.levels)
        read = [*self.keys, *(a.argument for a in aggregates if a.argument is not None)]
        read += [moment for aggregate in aggregates for moment in aggregate.moments]
        if self.filter is not None:
            read.append(self.filter)
        if sum(weight(expr) for expr in read) > MAX_WEIGHT or len(read) - len(self.keys) > MAX_VALUES:
            raise self.text.refusal(
                self.select, "too_deep", "the question is too large", "split it into simpler questions"
            )
        columns = frozenset().union(*(column_names(expr) for expr in read))
        values = sum(not output.slot.is_key for output in outputs)
        if settings.weights and len(settings.weights) != values:
            raise self.text.refusal(
                self.select,
                "setting",
                f"there are {values} value columns and {len(settings.weights)} weights",
                "give one for each",
            )
        bound = self.description.bound
        if self.step is None and self.join is None:
            bound = bound.lowered(rows=self.question.rows, groups=self.question.groups)
        source = None if self.join is None else self._join_source(self.join, keys, mode, settings)
        checked = CheckedQuery(
            dataset=self.description.dataset,
            table=self.description.table if self.step is None else self.step.base.table,
            unit_kind=self.description.unit.kind,
            columns=tuple(sorted(columns if self.step is None else self.step.reads(columns))),
            filter=self.filter,
            keys=keys,
            key_mode=mode,
            aggregates=tuple(aggregates),
            formulas=tuple(self.reader.formulas),
            outputs=outputs,
            finish=finish,
            bound=bound,
            max_rows=self.description.max_rows,
            settings=settings,
            source=None if self.step is None else self.step.sql(columns),
            others=self.description.also_protects,
            levels=self.levels,
        )
        if self.join is None or source is None:
            return checked
        table = self.join.first.base.table
        return replace(
            checked, table=table, columns=source.columns, filter=source.filter, source=source.sql, joined=source.joined
        )

    def _join_source(self, join: Join, keys: tuple[GroupKey, ...], mode: KeyMode, settings: Settings) -> JoinSource:
        """Return the rows of a join with the columns that keys and aggregates read; the WHERE is divided over it."""
        if settings.bounding is Bounding.RESCALE:
            raise self.text.refusal(
                self.select, "setting", "the rows of a join cannot be rescaled", "leave `bounding` out"
            )
        read = [key.expr for key in keys]
        for aggregate in self.reader.aggregates:
            read += [*aggregate.moments, *([] if aggregate.argument is None else [aggregate.argument])]
        used = frozenset().union(*(column_names(expr) for expr in read))
        apart = tells_groups_apart(join.bound, keys, mode, self.reader.aggregates)
        return join.source(used, self.filter, capped=apart)

    def _ctes(self) -> dict[str, exp.CTE]:
        clause = self.select.args.get("with_")
        if clause is None:
            return {}
        known_arguments(self.text, clause, "expressions")
        found: dict[str, exp.CTE] = {}
        for cte in clause.expressions:
            known_arguments(self.text, cte, "this", "alias")
            if str(cte.alias).lower() in found:
                raise self.text.refusal(cte, "name", "two parts of WITH have one name", "give each its own")
            found[str(cte.alias).lower()] = cte
        return found

    def _sides(self) -> tuple[Side, ...]:
        return () if self.join is None else self.join.sides

    def _table(self, tables: Mapping[str, DatasetDescription]) -> tuple[DatasetDescription, frozenset[str]]:
        source = self.select.args.get("from_")
        if source is None:
            raise self.text.refusal(self.select, "unknown_table", "the question names no table", "write FROM a table")
        joins = [join for join in self.select.args.get("joins") or () if joined_table(join, self.public) is None]
        if len(joins) >= len(TABLES):
            raise self.text.refusal(joins[len(TABLES) - 1], *TOO_MANY_JOINS)
        for join in joins:
            if not isinstance(join.this, (exp.Table, exp.Subquery)):
                raise self.text.refusal(join, *NO_JOIN)
        sides = [self._side(node, tables) for node in (source.this, *(join.this for join in joins))]
        if not joins:
            self.step = sides[0].step
            return sides[0].table, frozenset({sides[0].name})
        asked = joint_bound([side.base.bound for side in sides]).lowered(
            rows=self.question.rows, groups=self.question.groups
        )
        self.join = read_join(self.text, joins, sides, asked)
        return self.join.table, frozenset(side.name for side in sides)

    def _side(self, node: exp.Expr, tables: Mapping[str, DatasetDescription]) -> JoinSide:
        """Return what stands in FROM or behind JOIN: a table, or a first step over one."""
        inner = node.this if isinstance(node, exp.Subquery) else None
        if isinstance(inner, exp.Table):
            raise self.text.refusal(node, *BRACKETS)
        if isinstance(node, exp.Subquery):
            known_arguments(self.text, node, "this", "alias")
        if type(node) is exp.Table and (public := str(node.name).lower()) in self.public:
            hint = f"write FROM a table JOIN {public} USING (a column)"
            raise self.text.refusal(node, "join", "a public table is joined to a dataset", hint)
        if type(node) is exp.Table and str(node.name).lower() in self.ctes:
            known_arguments(self.text, node, "this", "alias")
            inner = self.ctes[str(node.name).lower()].this
        if not isinstance(inner, exp.Select):
            base, name = self._base(node, tables)
            return JoinSide(name, base, None)
        name = str(node.alias or node.name or "step").lower()
        source = inner.args.get("from_")
        base, own = self._base(None if source is None else source.this, tables)
        bound = base.bound.lowered(rows=self.question.rows, groups=self.question.groups)
        return JoinSide(name, base, read_step(self.text, inner, name, base, frozenset({own}), bound))

    def _base(self, node: exp.Expr | None, tables: Mapping[str, DatasetDescription]) -> tuple[DatasetDescription, str]:
        if isinstance(node, (exp.Subquery, exp.Select, exp.Values)):
            raise self.text.refusal(
                node, "subquery", "a question has two steps at most", "first GROUP BY the unit, then ask about units"
            )
        if type(node) is not exp.Table or not isinstance(node.this, exp.Identifier):
            raise self.text.refusal(node, "unknown_table", "FROM takes the name of one table", "write FROM a table")
        if node.args.get("joins"):
            raise self.text.refusal(node.args["joins"][0], *NO_JOIN)
        name = str(node.this.this)
        if node.args.get("db"):
            raise self.text.refusal(
                node, "unknown_table", "a table goes by its own name alone", f"write FROM {name}, without a schema"
            )
        known_arguments(self.text, node, "this", "alias")
        if name.lower() in self.ctes:
            raise self.text.refusal(
                node, "subquery", "a question has two steps at most", "first GROUP BY the unit, then ask about units"
            )
        described = tables.get(name) or tables.get(name.lower())
        if described is None:
            hint = names_hint(name, sorted(tables), "the tables are")
            raise self.text.refusal(node, "unknown_table", f"there is no table `{name[:64]}`", hint)
        alias = node.args.get("alias")
        if alias is not None:
            known_arguments(self.text, alias, "this")
        return described, node.alias.lower() if node.alias else name.lower()

    def _filter(self, joined: list[Expr]) -> Expr | None:
        where = self.select.args.get("where")
        conditions = [*([] if where is None else [self.translator.condition(where.this)]), *joined]
        if not conditions:
            return None
        condition = build.both(Op.AND, conditions)
        self.translator.present = present_columns(condition)
        return condition

    def _items(self) -> list[tuple[str | None, exp.Expr]]:
        items: list[tuple[str | None, exp.Expr]] = []
        for node in self.select.expressions:
            if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
                raise self.text.refusal(
                    node, "raw_rows", "SELECT * would release rows", "write COUNT(*) or other aggregates, by group"
                )
            if isinstance(node, exp.Alias):
                known_arguments(self.text, node, "this", "alias")
                items += several_quantiles(self.text, node.alias, node.this)
            else:
                items += several_quantiles(self.text, None, node)
        if not items or len(items) > MAX_OUTPUTS:
            raise self.text.refusal(
                self.select, "raw_rows", f"expected between 1 and {MAX_OUTPUTS} columns", "ask for fewer columns"
            )
        return items

    def _group(self, items: list[tuple[str | None, exp.Expr]]) -> list[Expr]:
        group = self.select.args.get("group")
        if group is None:
            return []
        known_arguments(self.text, group, "expressions", "all")
        nodes = list(group.expressions)
        grouping = read_grouping(self.text, nodes)
        if grouping is not None:
            nodes = list(grouping.nodes)
        if group.args.get("all"):
            nodes = [node for _, node in items if not self.reader.is_value(node)]
        keys: list[Expr] = []
        places: list[int] = []
        for node in nodes:
            expr = self.translator.translate(self._named(node, items))
            if not column_names(expr):
                raise self.text.refusal(node, "group_key", "a group key reads no column", "leave it out")
            if expr not in keys:
                keys.append(expr)
            places.append(keys.index(expr))
            if len(keys) > MAX_KEYS:
                raise self.text.refusal(
                    node, "group_key", f"there are more than {MAX_KEYS} group keys", "ask several questions"
                )
        if grouping is not None:
            self.levels = grouping.levels(places)
        return keys

    def _named(self, node: exp.Expr, items: list[tuple[str | None, exp.Expr]]) -> exp.Expr:
        """Return what `GROUP BY 2` or `GROUP BY alias` stands for."""
        if isinstance(node, exp.Literal) and not node.is_string:
            position = str(node.this)
            if not position.isdigit() or not 1 <= int(position[:6]) <= len(items):
                raise self.text.refusal(
                    node, "group_key", "there is no column with this number", "count columns from 1"
                )
            return items[int(position) - 1][1]
        return self._item_named(node) or node

    def _output(self, alias: str | None, node: exp.Expr) -> Output:
        slot = self.slot(node)
        if slot is None:
            self._refuse_raw(node)
        if slot.is_key:
            # `a.x` of a join is shown as `x`.
            named = bare(node).name.lower() if self.join is not None and isinstance(bare(node), exp.Column) else None
            label = key_label(self.description, self.keys[slot.index], alias or named)
        else:
            label = self._value_label(slot.index, alias)
        if not label.name.isprintable() or not 1 <= len(label.name) <= 64:
            raise self.text.refusal(node, "name", "a column's name is 1 to 64 printable characters", "name it with AS")
        return Output(label, slot)

    def _value_label(self, index: int, alias: str | None) -> Label:
        formula = self.reader.formulas[index]
        if formula.index is not None:
            return aggregate_label(self.description, self.reader.aggregates[formula.index], alias)
        return Label(alias or f"value_{index + 1}", alias or f"value {index + 1}", alias or f"值{index + 1}")

    def _item_named(self, node: exp.Expr) -> exp.Expr | None:
        """Return what a bare name stands for in the SELECT list, where no column has that name."""
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier) or node.args.get("table"):
            return None
        name = str(node.this.this).lower()
        if self.translator.has_column(name):
            return None
        return next((item for alias, item in self.items if alias is not None and alias.lower() == name), None)

    def _refuse_raw(self, node: exp.Expr) -> NoReturn:
        if not column_names(self.translator.translate(node)):
            raise self.text.refusal(node, "raw_rows", "a literal is not an answer", "leave it out")
        raise self.text.refusal(
            node,
            "raw_rows",
            "this column is neither a group key nor an aggregate",
            "put it into GROUP BY, or write COUNT, SUM or AVG of it",
        )

    def _check_outputs(self, outputs: tuple[Output, ...]) -> None:
        if not self.reader.aggregates:
            raise self.text.refusal(
                self.select, "raw_rows", "the question has no aggregate", "add COUNT(*), SUM or AVG, and GROUP BY"
            )
        seen: set[str] = set()
        for output in outputs:
            if output.label.name.lower() in seen:
                raise self.text.refusal(
                    self.select, "name", f"two columns are called `{output.label.name}`", "give each a name with AS"
                )
            seen.add(output.label.name.lower())

    def slot(self, node: exp.Expr) -> Slot | None:
        """Return the slot of a value (its aggregates added if new) or of a group key, or None."""
        node = bare(node)
        if self.reader.is_value(node):
            return Slot(is_key=False, index=self.reader.index(node))
        if not self.keys:
            return None
        expr = self.translator.translate(node)
        return Slot(is_key=True, index=self.keys.index(expr)) if expr in self.keys else None

    def key_of(self, slot: Slot) -> Expr | None:
        """Return the expression of a key slot, or None for an aggregate."""
        return self.keys[slot.index] if slot.is_key else None

    def _key_mode(self) -> tuple[tuple[GroupKey, ...], KeyMode]:
        if not self.keys:
            return (), KeyMode.NONE
        keys = tuple(GroupKey(expr, key_domain(expr)) for expr in self.keys)
        cells = 1
        for key in keys:
            cells *= MAX_PUBLIC_CELLS + 1 if key.domain is None else len(key.domain)
        if cells <= MAX_PUBLIC_CELLS:
            return keys, KeyMode.PUBLIC
        return tuple(GroupKey(key.expr, None) for key in keys), KeyMode.PRIVATE
