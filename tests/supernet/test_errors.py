"""A user's mistake is one sentence that a terminal can show, whatever stands in it."""

from supernet.errors import UserError


def test_plain_sentences_stay_as_they_are() -> None:
    for sentence in ("steps is 0; it must be at least 1", "no file /tmp/Über/日本.json", ""):
        assert str(UserError(sentence)) == sentence


def test_what_a_terminal_would_obey_is_written_as_escapes() -> None:
    assert str(UserError("a\nb\x1b[2J\x07 \ud800\u202e")) == r"a\nb\x1b[2J\x07 \ud800\u202e"


def test_far_too_long_a_sentence_keeps_its_beginning_and_its_remedy() -> None:
    told = str(UserError(f"field is {'9' * 10**6}; give a number"))
    assert told.startswith("field is 999")
    assert told.endswith("999; give a number")
    assert len(told) < 1100
