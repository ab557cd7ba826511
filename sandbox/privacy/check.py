"""Check a question: SQL text and public descriptions in, a typed question out, or a refusal that names the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from sqlglot import exp

from sandbox.model.description import DatasetDescription
from sandbox.model.question import Question
from sandbox.privacy import build
from sandbox.privacy.aggregates import AggregateReader, bare, several_quantiles
from sandbox.privacy.algebra import Expr, Op, column_names, present_columns
from sandbox.privacy.expression import Translator
from sandbox.privacy.finish import check_finish
from sandbox.privacy.keys import MAX_PUBLIC_CELLS, key_domain
from sandbox.privacy.labels import aggregate_label, key_label
from sandbox.privacy.lookup import join_public, public_tables
from sandbox.privacy.margins_check import check_margins
from sandbox.privacy.parse import Text, known_arguments, parse_select
from sandbox.privacy.query import CheckedQuery, GroupKey, KeyMode, Label, Output, Settings, Slot
from sandbox.privacy.render import weight
from sandbox.privacy.step import UnitStep, read_step

MAX_OUTPUTS = 64
MAX_WEIGHT = 20_000
_REFUSED_CLAUSES: dict[str, tuple[str, str, str]] = {
    "laterals": ("join", "a lateral join is not in the language", "ask about one table"),
    "distinct": ("distinct", "SELECT DISTINCT would release rows", "GROUP BY the column and COUNT(*)"),
    "qualify": ("window", "QUALIFY is not in the language", "filter groups with HAVING"),
    "windows": ("window", "a window is not in the language", "use GROUP BY"),
    "sample": ("feature", "a sample is not in the language", "leave it out: bounding samples rows by itself"),
    "hint": ("feature", "a hint is not in the language", "leave it out"),
    "into": ("feature", "INTO is not in the language", "leave it out"),
    "locks": ("feature", "a lock is not in the language", "leave it out"),
}

NO_JOIN = (
    "join",
    "only a public table of the question itself can be joined",
    "write WITH d(district, kind) AS (VALUES ('east', 'urban')) … JOIN d USING (district); ask each dataset apart",
)


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
        return _Checker(text, select, tables, question).check(settings)
    except RecursionError:
        raise text.refusal(
            None, "too_deep", "the question is nested too deep", "split it into simpler questions"
        ) from None


class _Checker:
    """Walks one SELECT; holds what the clauses have found so far."""

    def __init__(
        self, text: Text, select: exp.Select, tables: Mapping[str, DatasetDescription], question: Question
    ) -> None:
        self.text = text
        self.select = select
        self.question = question
        self.step: UnitStep | None = None
        self.ctes = self._ctes()
        self.public = public_tables(text, list(self.ctes.values()))
        for name, (code, message, hint) in _REFUSED_CLAUSES.items():
            found = select.args.get(name)
            if found:
                node = found[0] if isinstance(found, list) else found
                raise text.refusal(node if isinstance(node, exp.Expr) else select, code, message, hint)
        known_arguments(
            text,
            select,
            *("with_", "expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "kind"),
        )
        if select.args.get("kind"):
            raise text.refusal(select, "feature", "SELECT AS is not in the language", "name columns with AS")
        self.description, names = self._table(tables)
        self.translator = Translator(text, self.description, names)
        joined = self._joins()
        self.filter = self._filter(joined)
        self.keys: list[Expr] = []
        self.rolled = False
        self.items = self._items()
        self.reader = AggregateReader(
            text, self.translator, self.description.unit.column, self.description.max_rows, self._item_named
        )

    def check(self, settings: Settings) -> CheckedQuery:
        self.keys = self._group(self.items)
        outputs = tuple(self._output(alias, node) for alias, node in self.items)
        self._check_outputs(outputs)
        finish = check_finish(self.text, self.select, outputs, self.slot, self.key_of)
        keys, mode = self._key_mode()
        aggregates = self.reader.aggregates
        check_margins(self.text, self.select, keys, aggregates, settings, rolled=self.rolled)
        read = [*self.keys, *(a.argument for a in aggregates if a.argument is not None)]
        read += [moment for aggregate in aggregates for moment in aggregate.moments]
        if self.filter is not None:
            read.append(self.filter)
        if sum(weight(expr) for expr in read) > MAX_WEIGHT:
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
        if self.step is None:
            bound = bound.lowered(rows=self.question.rows, groups=self.question.groups)
        return CheckedQuery(
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
            rolled=self.rolled,
        )

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

    def _joins(self) -> list[Expr]:
        kept = []
        for join in self.select.args.get("joins") or ():
            node = join.this
            table = self.public.get(str(node.name).lower()) if type(node) is exp.Table else None
            if table is None:
                raise self.text.refusal(join, *NO_JOIN)
            name = str(node.alias or node.name).lower()
            columns, condition = join_public(self.text, join, name, table, self.translator)
            self.translator.joined[name] = columns
            kept += [] if condition is None else [condition]
        return kept

    def _table(self, tables: Mapping[str, DatasetDescription]) -> tuple[DatasetDescription, frozenset[str]]:
        source = self.select.args.get("from_")
        if source is None:
            raise self.text.refusal(self.select, "unknown_table", "the question names no table", "write FROM a table")
        node = source.this
        inner = node.this if isinstance(node, exp.Subquery) else None
        if type(node) is exp.Table and str(node.name).lower() in self.ctes:
            known_arguments(self.text, node, "this", "alias")
            inner = self.ctes[str(node.name).lower()].this
        if isinstance(inner, exp.Select):
            name = str(node.alias or node.name or "step").lower()
            base, names = self._base(inner, tables)
            bound = base.bound.lowered(rows=self.question.rows, groups=self.question.groups)
            self.step = read_step(self.text, inner, name, base, names, bound)
            return self.step.table, frozenset({name})
        return self._base(self.select, tables)

    def _base(
        self, select: exp.Select, tables: Mapping[str, DatasetDescription]
    ) -> tuple[DatasetDescription, frozenset[str]]:
        source = select.args.get("from_")
        node = None if source is None else source.this
        if isinstance(node, (exp.Subquery, exp.Select, exp.Values)):
            raise self.text.refusal(
                node, "subquery", "a question has two steps at most", "first GROUP BY the unit, then ask about units"
            )
        if type(node) is not exp.Table or not isinstance(node.this, exp.Identifier):
            raise self.text.refusal(node, "unknown_table", "FROM takes the name of one table", "write FROM a table")
        if node.args.get("joins"):
            raise self.text.refusal(node.args["joins"][0], *NO_JOIN)
        known_arguments(self.text, node, "this", "alias")
        name = str(node.this.this)
        described = tables.get(name) or tables.get(name.lower())
        if described is None:
            known = ", ".join(sorted(tables)[:40])
            raise self.text.refusal(
                node, "unknown_table", f"there is no table `{name[:64]}`", f"the tables are {known}"
            )
        alias = node.args.get("alias")
        if alias is not None:
            known_arguments(self.text, alias, "this")
        return described, frozenset({node.alias.lower() if node.alias else name.lower()})

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
        if len(nodes) == 1 and isinstance(nodes[0], exp.Rollup):
            self.rolled, nodes = True, list(nodes[0].expressions)
        if group.args.get("all"):
            nodes = [node for _, node in items if not self.reader.is_value(node)]
        keys: list[Expr] = []
        for node in nodes:
            expr = self.translator.translate(self._named(node, items))
            if not column_names(expr):
                raise self.text.refusal(node, "group_key", "a group key reads no column", "leave it out")
            if expr not in keys:
                keys.append(expr)
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
            label = key_label(self.description, self.keys[slot.index], alias)
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
        if self.description.column(name) is not None or name == self.description.unit.column:
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
