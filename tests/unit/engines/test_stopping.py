"""Text leaves whole-character by whole-character and never contains part of a stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.stopping import REPLACEMENT, StopStringFilter, Utf8Detokenizer

SHORT_TEXT = st.text(alphabet="ab", max_size=12)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=4)


def decode_bytes(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def filtered(pieces, stop):
    stops = StopStringFilter(stop)
    return [stops.push(piece) for piece in pieces] + [stops.flush()], stops


def detokenized(data):
    detokenizer = Utf8Detokenizer(decode_bytes)
    return [detokenizer.push(byte) for byte in data] + [detokenizer.flush()]


def test_a_stop_string_across_tokens_never_shows_its_beginning():
    pieces, stops = filtered(["The quick br", "own", " fox", " jumps"], ["own fox"])
    assert "".join(pieces) == "The quick br"
    assert stops.matched == "own fox"


def test_nothing_is_delayed_that_cannot_become_a_stop_string():
    stops = StopStringFilter(["#" * 40])
    assert stops.push("Hello") == "Hello"
    assert stops.push(" ##") == " "
    assert stops.push("x") == "##x"


def test_a_held_tail_appears_exactly_once_at_the_end():
    stops = StopStringFilter(["END"])
    assert [stops.push("abc EN"), stops.flush(), stops.flush()] == ["abc ", "EN", ""]


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ValueError, match="stop"):
        StopStringFilter(["x", ""])


@given(st.lists(SHORT_TEXT, max_size=8), STOPS)
def test_shown_text_contains_no_stop_string_and_does_not_depend_on_the_cut(pieces, stop):
    text = "".join(pieces)
    shown, stops = filtered(pieces, stop)
    by_character, stops_by_character = filtered(list(text), stop)
    assert "".join(shown) == "".join(by_character)
    assert stops.matched == stops_by_character.matched
    assert not any(s in "".join(shown) for s in stop)
    if not any(s in text for s in stop):
        assert "".join(shown) == text
    else:
        assert text.startswith("".join(shown) + stops.matched)


@given(SHORT_TEXT, STOPS)
def test_what_is_held_back_is_a_proper_prefix_of_a_stop_string(text, stop):
    stops = StopStringFilter(stop)
    shown = stops.push(text)
    if not stops.is_stopped:
        held = text[len(shown) :]
        assert held == "" or any(s.startswith(held) and s != held for s in stop)


@given(st.text(max_size=30))
def test_text_cut_into_bytes_comes_back_without_a_replacement_character(text):
    data = text.encode("utf-8", errors="ignore")
    pieces = detokenized(data)
    assert "".join(pieces) == data.decode()
    if REPLACEMENT not in text:
        assert not any(REPLACEMENT in piece for piece in pieces)


@given(st.binary(max_size=31))
def test_pieces_concatenate_to_the_decoded_whole_even_for_bytes_that_are_no_text(data):
    assert "".join(detokenized(data)) == decode_bytes(data)


@pytest.mark.parametrize("character", ["😀", "你", "é", "👩‍👩‍👧‍👦"])
def test_a_character_over_several_tokens_is_shown_once_complete(character):
    *held, last, flushed = detokenized(b"x" + character[0].encode())
    assert held == ["x"] + [""] * (len(held) - 1)
    assert (last, flushed) == (character[0], "")


def test_a_final_truncated_character_is_shown_as_what_it_is():
    assert detokenized("a😀".encode()[:-1]) == ["a", "", "", "", REPLACEMENT]


def test_a_tokenizer_that_strips_the_first_space_keeps_the_spaces_between_words():
    words = ["▁Hello", "▁big", "▁world"]

    def decode(ids):
        return "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")

    detokenizer = Utf8Detokenizer(decode)
    assert [detokenizer.push(i) for i in range(3)] == ["Hello", " big", " world"]


def test_one_byte_per_replacement_character_is_held_too():
    """SentencePiece's byte fallback shows every byte of an unfinished run as its own U+FFFD."""

    def decode(ids):
        try:
            return bytes(ids).decode()
        except UnicodeDecodeError:
            return REPLACEMENT * len(ids)

    detokenizer = Utf8Detokenizer(decode)
    assert [detokenizer.push(b) for b in "你好".encode()] == ["", "", "你", "", "", "好"]


def test_endless_garbage_is_not_decoded_over_and_over():
    longest = 0

    def decode(ids):
        nonlocal longest
        longest = max(longest, len(ids))
        return decode_bytes(ids)

    detokenizer = Utf8Detokenizer(decode)
    for _ in range(500):
        detokenizer.push(0xFF)
    assert longest < 100
