"""A scripted engine, shipped so that users can test against the seam without a model.

Says what its scripts say, byte for byte, and counts what it did; knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engines.seam import (
    Capabilities,
    ContextOverflow,
    Finish,
    GenerateRequest,
    Health,
    TokenDelta,
    TopLogprob,
    UnknownAdapter,
)
from engines.stopping import StopStringFilter, Utf8Detokenizer
from feedback.adapter_files import AdapterFiles, AdapterRefused
from feedback.base_description import BaseDescription

EOS_ID = 256
FIRST_PIECE_ID = 257

SCRIPTED_BASE = BaseDescription(
    base_id="scripted",
    weights_hash="5c" * 32,
    tokenizer_hash="70" * 32,
    template_hash="7e" * 32,
    architecture="Scripted",
    num_layers=1,
    hidden_size=8,
    vocab_size=65_536,
    context_length=4096,
    modules={"model.layers.0.self_attn.q_proj": (8, 8)},
)


@dataclass(frozen=True, slots=True)
class Script:
    """What one choice says.

    pieces: one token each; bytes where a character is cut in two. is_endless: begin again after
    the last piece instead of ending with EOS. delay_s: before each token. fails_after: number of
    tokens after which the engine breaks. logprob: of every token, in nats.
    """

    pieces: tuple[str | bytes, ...]
    is_endless: bool = False
    delay_s: float = 0.0
    fails_after: int | None = None
    logprob: float = -0.5


ScriptOf = Callable[[GenerateRequest], Script]


def voice_of(adapter_id: str) -> str:
    """Return a word by which a test can tell which adapter answered; it does not name it.

    An answer that named its adapter would be an identity leak, and no vote on it would count.
    """
    return "voice" + hashlib.sha256(adapter_id.encode()).hexdigest()[:8]


def speak_in_its_voice(request: GenerateRequest) -> Script:
    """Return the default script: the adapter's own word, and which sample this is."""
    return Script((voice_of(request.adapter_id), " gives", " sample", f" {request.sample_index}"))


@dataclass(slots=True)
class Counts:
    """What the engine did so far; num_live is what it is doing now."""

    num_live: int = 0
    num_tokens: int = 0
    num_loads: int = 0
    num_releases: int = 0


@dataclass
class ScriptedEngine:
    """An Engine whose answers are written down.

    script_of chooses the script of a request; refusals name adapters that fail to load, with the
    reason; load_delay_s is how long a load takes; set is_alive to False to break the engine.
    """

    script_of: ScriptOf = speak_in_its_voice
    base: BaseDescription = SCRIPTED_BASE
    max_adapters: int = 4
    max_rank: int = 64
    load_delay_s: float = 0.0
    refusals: Mapping[str, AdapterRefused] = field(default_factory=dict)
    is_alive: bool = True
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._adapter_ids = {self.base.adapter_id}
        self._piece_ids: dict[bytes, int] = {}
        self._pieces: list[bytes] = []
        self._is_closed = False

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="scripted",
            version="1",
            dtype="float32",
            base=self.base,
            max_adapters=self.max_adapters,
            max_rank=self.max_rank,
            context_length=self.base.context_length,
        )

    @property
    def adapter_ids(self) -> frozenset[str]:
        """The adapters that requests may name now, the base included."""
        return frozenset(self._adapter_ids)

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode("utf-8", errors="replace"))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, EOS left out."""
        return b"".join(map(self._token_bytes, token_ids)).decode("utf-8", errors="replace")

    async def generate(self, request: GenerateRequest) -> AsyncIterator[TokenDelta]:
        self._check(request)
        self.counts.num_live += 1
        try:
            async for delta in self._say(request, self.script_of(request)):
                yield delta
        finally:
            self.counts.num_live -= 1

    async def ensure(self, files: AdapterFiles) -> None:
        if files.adapter_id in self._adapter_ids:
            return
        await asyncio.sleep(self.load_delay_s)
        if files.adapter_id in self.refusals:
            raise self.refusals[files.adapter_id]
        if len(self._adapter_ids) > self.max_adapters:
            raise RuntimeError(f"the engine holds {self.max_adapters} adapters; release one first")
        self._adapter_ids.add(files.adapter_id)
        self.counts.num_loads += 1

    async def release(self, adapter_id: str) -> None:
        if adapter_id in self._adapter_ids - {self.base.adapter_id}:
            self._adapter_ids.remove(adapter_id)
            self.counts.num_releases += 1

    async def health(self) -> Health:
        is_alive = self.is_alive and not self._is_closed
        return Health(is_alive, 0.0 if is_alive else 60.0, self.counts.num_live, 0)

    async def close(self) -> None:
        self._is_closed = True

    async def _say(self, request: GenerateRequest, script: Script) -> AsyncIterator[TokenDelta]:
        sampling = request.sampling
        detokenizer = Utf8Detokenizer(self.decode)
        stops = StopStringFilter(sampling.stop)
        for num_said in range(sampling.max_tokens):
            # A real sleep each time: even the fastest script lets other work run.
            await asyncio.sleep(script.delay_s)
            if self._is_closed or not self.is_alive:
                yield TokenDelta(text=stops.flush(), finish=Finish("error", "the engine stopped"))
                return
            if num_said == script.fails_after:
                yield TokenDelta(text=stops.flush(), finish=Finish("error", "the script fails"))
                return
            token_id = self._token_at(script, num_said, sampling.ignore_eos)
            is_last = token_id == EOS_ID or num_said + 1 == sampling.max_tokens
            piece = "" if token_id == EOS_ID else detokenizer.push(token_id)
            if is_last:
                piece += detokenizer.flush()
            text = stops.push(piece)
            finish = self._finish(token_id, stops, is_last)
            if finish is not None:
                text += stops.flush()
            self.counts.num_tokens += 1
            yield self._delta(request, script, token_id, piece, text, finish)
            if finish is not None:
                return

    def _finish(self, token_id: int, stops: StopStringFilter, is_last: bool) -> Finish | None:
        if stops.is_stopped:
            return Finish("stop_string")
        if token_id == EOS_ID:
            return Finish("eos")
        return Finish("length") if is_last else None

    def _delta(
        self,
        request: GenerateRequest,
        script: Script,
        token_id: int,
        piece: str,
        text: str,
        finish: Finish | None,
    ) -> TokenDelta:
        return TokenDelta(
            token_ids=(token_id,),
            text=text,
            token_texts=(piece,),
            logprobs=(script.logprob,),
            processed_logprobs=(script.logprob,),
            top_logprobs=self._top_logprobs(request, script, token_id, piece),
            finish=finish,
        )

    def _top_logprobs(
        self, request: GenerateRequest, script: Script, token_id: int, piece: str
    ) -> tuple[tuple[TopLogprob, ...], ...]:
        wanted = request.sampling.num_logprobs
        if wanted is None:
            return ()
        # The sampled token is the likeliest; the others are the first bytes, ever less likely.
        others = [
            TopLogprob(rank, chr(rank), script.logprob - rank) for rank in range(65, 64 + wanted)
        ]
        return ((TopLogprob(token_id, piece, script.logprob), *others)[:wanted],)

    def _token_at(self, script: Script, position: int, is_eos_ignored: bool) -> int:
        if (script.is_endless or is_eos_ignored) and script.pieces:
            position %= len(script.pieces)
        if position >= len(script.pieces):
            return EOS_ID
        return self._piece_id(script.pieces[position])

    def _piece_id(self, piece: str | bytes) -> int:
        data = piece.encode() if isinstance(piece, str) else piece
        if data not in self._piece_ids:
            self._piece_ids[data] = FIRST_PIECE_ID + len(self._pieces)
            self._pieces.append(data)
        return self._piece_ids[data]

    def _token_bytes(self, token_id: int) -> bytes:
        if token_id < EOS_ID:
            return bytes([token_id])
        return b"" if token_id == EOS_ID else self._pieces[token_id - FIRST_PIECE_ID]

    def _check(self, request: GenerateRequest) -> None:
        if request.adapter_id not in self._adapter_ids:
            raise UnknownAdapter(request.adapter_id)
        if not request.prompt_token_ids:
            raise ValueError("the prompt has no tokens; send at least one")
        num_prompt, max_tokens = len(request.prompt_token_ids), request.sampling.max_tokens
        if num_prompt + max_tokens > self.base.context_length:
            raise ContextOverflow(num_prompt, max_tokens, self.base.context_length)
