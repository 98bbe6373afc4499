from src.utils.errors import DataError, counted, printable


def test_every_character_is_shown_or_escaped_alone_and_among_all() -> None:
    every = [chr(code) for code in range(0x3000)] + ["\ud800", "\udfff", "\ue000", "\U000e0001", "\U0010ffff"]
    assert [printable(c) for c in every] == [
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in every
    ]
    assert printable("".join(every)) == "".join(map(printable, every))


def test_the_password_of_an_address_is_not_shown() -> None:
    error = DataError("cannot reach https://me:secret@example.org/api?x=a@b or http://token@host; check the network")
    assert str(error) == "cannot reach https://example.org/api?x=a@b or http://host; check the network"


def test_an_error_is_one_line_of_which_the_middle_is_left_out_if_it_is_long() -> None:
    message = str(DataError(f"a.csv:2: {'x' * 10_000}; mend the row"))
    assert str(DataError("a.csv: no column \x1b[2J\nx")) == "a.csv: no column \\x1b[2J\\nx"
    assert message.startswith("a.csv:2: xxx") and message.endswith("xxx; mend the row") and len(message) < 1100
    assert str(DataError("x" * 1000)) == "x" * 1000


def test_one_of_a_thing_is_written_without_an_s() -> None:
    assert [counted(number, "layer") for number in (0, 1, 1_200)] == ["0 layers", "1 layer", "1,200 layers"]
