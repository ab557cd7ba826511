"""A notebook's city: it shows tables, quotes for nothing, and believes an answer only with its receipt."""

from dataclasses import replace

import pytest

from sandbox.client.city import Asked, City
from sandbox.client.picture import bar_picture
from sandbox.client.submission import sign_spec, verify_release
from sandbox.errors import InclusionError, InputError, LedgerError, QueryError
from sandbox.service.compose import unlock_named
from sandbox.service.embedded import EmbeddedTransport, connect

SQL = "SELECT district, COUNT(*) AS n, AVG(days) AS mean FROM visits GROUP BY district"
PASSPHRASE = "a test's passphrase"


def test_a_city_shows_its_tables_quotes_for_nothing_and_answers_with_errors(world) -> None:
    city = connect(world.state, key="operator", passphrase=PASSPHRASE)
    tables = city.tables.set_index("column")
    assert tables.loc["days", "名称"] == "天数"
    assert tables.loc["district", "values"] == 3

    with world.records() as records:
        before = records.ledger.size
    quote = city.quote(SQL, epsilon="0.5")
    assert quote["allowed"] is True
    with world.records() as records:
        assert records.ledger.size == before, "a quote leaves no trace"

    answered = city.ask(SQL, epsilon="0.5")
    assert list(answered.frame.columns) == [
        "district",
        "n",
        "n_se",
        "n_low",
        "n_high",
        "mean",
        "mean_se",
        "mean_low",
        "mean_high",
    ]
    assert len(answered.frame) == 3
    assert (answered.frame["n_low"] <= answered.frame["n_high"]).all()
    assert answered.picture().startswith(b"\x89PNG")
    assert "cost 消耗" in answered._repr_html_()
    with pytest.raises(InputError, match="no value `district`"):
        answered.picture("district")

    again = city.ask(SQL, epsilon="0.5")
    assert again.frame.equals(answered.frame), "the same question is the same job: the stored answer, no second charge"
    assert not city.ask(SQL, epsilon="0.5", again=True).frame.equals(answered.frame)


def test_a_refused_question_tells_why(world) -> None:
    city = connect(world.state, key="operator", passphrase=PASSPHRASE)
    with pytest.raises(QueryError, match="would release rows"):
        city.ask("SELECT * FROM visits", epsilon="0.5")


def test_a_changed_release_or_another_jobs_is_not_believed(world) -> None:
    class Lying(EmbeddedTransport):
        def run(self, spec, code, signature):
            raw, receipt = super().run(spec, code, signature)
            return raw.replace(b'"purpose":"public-governance"', b'"purpose":"public-governancE"'), receipt

    key = unlock_named(world.state, "operator", PASSPHRASE)
    with pytest.raises(LedgerError, match="release"):
        City(Lying(world.state, PASSPHRASE, None), key).ask(SQL, epsilon="0.5")

    transport = EmbeddedTransport(world.state, PASSPHRASE, None)
    spec = transport.specify(Asked(SQL, "0.5", "1e-7", None, again=False))
    raw, receipt = transport.run(spec, SQL, sign_spec(spec, key))
    assert verify_release(raw, receipt, transport.trusted(), spec=spec).job == spec.digest()
    with pytest.raises(InclusionError, match="another job"):
        verify_release(raw, receipt, transport.trusted(), spec=replace(spec, nonce="other"))


def test_a_picture_without_a_chinese_font_has_no_empty_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.client.picture.chinese_font", lambda: None)
    picture = bar_picture(
        ["珠山区 Zhushan", "x"], [1.0, 2.0], [0.5, 1.5], [1.5, 2.5], title="住院 stay", axis="天 day (天)"
    )
    assert picture.startswith(b"\x89PNG"), "a missing glyph would be a warning, and a warning is an error here"
