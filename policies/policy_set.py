"""A policy set: the rules, the form of a request, and the sentences; named by the digest of its texts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cedarpy

from policies import texts
from sandbox.errors import PolicyError
from sandbox.model.digest import Digest, digest_of_record
from sandbox.model.document import read_document

ENGINE_ERROR = "engine-error"


@lru_cache(maxsize=16)
def _digest_of(policy_set: PolicySet) -> Digest:
    """Return a set's digest; every decision names it, and the texts are long."""
    return digest_of_record(policy_set.to_record())


@dataclass(frozen=True, slots=True)
class PolicySet:
    """The texts that decide.

    Attributes:
        texts: `(file name, text)`, sorted by name: the clauses and the schema in Cedar, the sentences in YAML.
    """

    texts: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> Digest:
        """The digest of the texts; one byte changed is another policy."""
        return _digest_of(self)

    def text(self, name: str) -> str:
        """Return the text called `name`."""
        return dict(self.texts)[name]

    def to_record(self) -> dict[str, Any]:
        """Return the set as a canonical record."""
        return {"v": 1, "texts": dict(self.texts)}

    @classmethod
    def parse(cls, record: object) -> PolicySet:
        """Return the set that a record writes; strict about its fields.

        Raises:
            PolicyError: it is not such a record.
        """
        inner = record.get("texts") if isinstance(record, dict) and set(record) == {"v", "texts"} else None
        if not isinstance(record, dict) or record.get("v") != 1 or not isinstance(inner, dict):
            raise PolicyError("a policy set record is malformed", hint="it has exactly `v` and `texts`")
        if set(inner) != set(texts.NAMES) or not all(isinstance(text, str) for text in inner.values()):
            raise PolicyError(
                "a policy set record has not the texts it needs", hint=f"they are {', '.join(texts.NAMES)}"
            )
        return cls(tuple(sorted(inner.items())))


@dataclass(frozen=True, slots=True)
class Clause:
    """What a clause means: the plan's article, a sentence in two languages, and what to do."""

    clause: str
    article: str
    en: str
    zh: str
    hint: str


@dataclass(frozen=True, slots=True)
class CompiledPolicies:
    """A policy set that was checked and is ready to decide.

    Attributes:
        handle, schema: Cedar's own.
        clauses: by id, in the order in which denials are named.
    """

    handle: cedarpy.PolicySet
    schema: cedarpy.Schema
    clauses: dict[str, Clause]


def current_policies() -> PolicySet:
    """Return the policy set that this version carries."""
    return _CURRENT


def explain(clause: str) -> tuple[str, str, str]:
    """Return the English sentence, the Chinese sentence and the article of a clause of the current set.

    Raises:
        PolicyError: no clause has this id.
    """
    known = compile_policies(_CURRENT).clauses.get(clause)
    if known is None:
        raise PolicyError(f"no clause is called `{clause}`", hint="see docs/reference/agreement.md")
    return known.en, known.zh, known.article


@lru_cache(maxsize=16)
def compile_policies(policies: PolicySet) -> CompiledPolicies:
    """Return the set, checked: strict against its schema, each policy with an id, each id with its sentences.

    Raises:
        PolicyError: it does not hold together; a set that was adopted always does.
    """
    clauses = _sentences(policies.text(texts.SENTENCES))
    rules, shape = policies.text(texts.CLAUSES), policies.text(texts.SCHEMA)
    try:
        schema = cedarpy.Schema.from_str(shape)
        handle = cedarpy.PolicySet.from_str(rules)
        result = cedarpy.validate_policies(rules, schema)
        static = json.loads(cedarpy.policies_to_json_str(rules))
    except ValueError as error:
        raise PolicyError("a policy set does not parse", hint="check it with `validate_policies`") from error
    if result.validation_passed is not True or result.errors:
        raise PolicyError("a policy set does not fit its schema", hint="; ".join(str(e) for e in result.errors)[:400])
    ids = [policy.get("annotations", {}).get("id") for policy in static["staticPolicies"].values()]
    permits = [policy for policy in static["staticPolicies"].values() if policy["effect"] == "permit"]
    if static.get("templates") or len(permits) != 1 or len(set(ids)) != len(ids):
        raise PolicyError(
            "a policy set has not one permit and one forbid a clause", hint="give each policy its own @id"
        )
    if {*ids, ENGINE_ERROR} != set(clauses):
        raise PolicyError("the clauses and their sentences do not match", hint="each @id stands once in clauses.yaml")
    return CompiledPolicies(handle, schema, clauses)


def _sentences(text: str) -> dict[str, Clause]:
    top = read_document(text, texts.SENTENCES)
    top.only("clauses")
    clauses: dict[str, Clause] = {}
    for place in top.field("clauses").items():
        place.only("id", "article", "en", "zh", "hint")
        clause, article, en, zh, hint = (place.field(name).text() for name in ("id", "article", "en", "zh", "hint"))
        if clause in clauses:
            place.refuse(f"clause `{clause}` stands twice", hint="keep one of them", kind="duplicate")
        clauses[clause] = Clause(clause, article, en, zh, hint)
    return clauses


_CURRENT = PolicySet(texts.CURRENT)
