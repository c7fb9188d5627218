"""A transcript keeps tokens and text together; each visible token is shown once."""

from hypothesis import given
from hypothesis import strategies as st

from engines.scripted import Script, ScriptedEngine
from engines.seam import Finish, GenerateRequest, SamplingParameters, TokenDelta
from service.transcripts import Transcript

PIECES = st.lists(st.text(alphabet="ab€", max_size=3), min_size=1, max_size=8)


def delta(text, *token_texts, finish=None):
    num = len(token_texts)
    return TokenDelta(
        token_ids=(7,) * num,
        text=text,
        token_texts=token_texts,
        logprobs=(-1.0,) * num,
        finish=Finish(finish) if finish else None,
    )


def test_a_held_back_token_comes_with_the_chunk_that_releases_its_text():
    transcript = Transcript()
    transcript.add(delta("The", "The"))
    assert transcript.newly_shown() == slice(0, 1)
    transcript.add(delta("", " own"))
    assert transcript.newly_shown() == slice(1, 1)
    transcript.add(delta(" owns", "s"))
    assert transcript.newly_shown() == slice(1, 3)


def test_a_token_cut_by_a_stop_string_is_visible_as_far_as_it_shows():
    transcript = Transcript()
    transcript.add(delta("a", "a"))
    transcript.add(delta(" st", " stop", "END", finish="stop_string"))
    assert transcript.num_visible_tokens == 2
    assert transcript.newly_shown() == slice(0, 2)
    assert transcript.visible_text(1) == " st"


def test_the_end_of_sequence_is_no_visible_token():
    transcript = Transcript()
    transcript.add(delta("word", "word"))
    transcript.add(delta("", "", finish="eos"))
    assert transcript.num_visible_tokens == 1


@given(PIECES, st.lists(st.text(alphabet="ab€", min_size=1, max_size=2), max_size=2))
async def test_shown_tokens_spell_the_answer_however_it_arrives(pieces, stop):
    engine = ScriptedEngine(lambda request: Script(tuple(pieces)))
    sampling = SamplingParameters(max_tokens=20, stop=tuple(stop))
    request = GenerateRequest("r", (1,), engine.base.adapter_id, sampling)
    transcript, shown = Transcript(), []
    async for gained in engine.generate(request):
        transcript.add(gained)
        shown += range(*transcript.newly_shown().indices(1000))
    assert shown == list(range(transcript.num_visible_tokens))
    assert "".join(map(transcript.visible_text, shown)) == transcript.text
    for position in shown:
        text = transcript.visible_text(position)
        assert transcript.text[transcript.offsets[position] :].startswith(text)
