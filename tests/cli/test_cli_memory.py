"""A machine that has too little memory is told so, and not called our mistake."""

import json

import pytest

from sandbox.cli.session import told


@told
def greedy(*, as_json: bool = False) -> None:
    raise MemoryError


def test_too_little_memory_is_a_refusal_of_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        greedy()
    said = capsys.readouterr().err
    assert ended.value.code == 10
    assert "refused service.unavailable.memory  there is not enough memory for this command" in said
    assert "`ulimit -v`" in said
    assert "our mistake" not in said


def test_too_little_memory_is_told_to_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        greedy(as_json=True)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "service.unavailable.memory"
