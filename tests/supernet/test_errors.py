"""The message of a UserError is safe to print, whatever text it contains."""

from supernet.errors import UserError, suggestion


def test_printable_messages_are_unchanged() -> None:
    for message in ("steps must be at least 1, got 0", "no file /tmp/Über/日本.json", ""):
        assert str(UserError(message)) == message


def test_control_characters_are_escaped() -> None:
    assert str(UserError("a\nb\x1b[2J\x07 \ud800\u202e")) == r"a\nb\x1b[2J\x07 \ud800\u202e"


def test_a_very_long_message_keeps_its_beginning_and_its_remedy() -> None:
    message = str(UserError(f"field is {'9' * 10**6}; give a number"))
    assert message.startswith("field is 999")
    assert message.endswith("999; give a number")
    assert len(message) < 1100


def test_a_name_inside_a_group_is_suggested_if_there_is_only_one() -> None:
    known = ["constraint.macs", "dataset.train.images", "dataset.val.images", "num_images"]
    assert "constraint.macs" in suggestion("macs", known)
    assert "num_images" in suggestion("images", known)
    assert suggestion("latency", known) == ""
