"""The embedded engine: the model inside this process, behind the engine seam; it knows no HTTP.

The event loop only passes requests on and deltas back; the model belongs to one thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from engines.embedded_choice import Choice
from engines.embedded_thread import DecodingThread
from engines.seam import (
    Capabilities,
    ContextOverflow,
    EngineStopped,
    Finish,
    GenerateRequest,
    Health,
    TokenDelta,
    UnknownAdapter,
)
from feedback.adapter_files import SCORING_KINDS, AdapterFiles, AdapterRefused
from feedback.adapter_validation import validate_adapter
from policy.adapter_weights import load_adapter
from policy.decoder import Decoder
from policy.pretrained import DtypeName, LoadedBase, load_language_model


class EmbeddedEngine:
    """An Engine that decodes with policy's decoder in a thread of its own."""

    def __init__(
        self,
        base: LoadedBase,
        *,
        max_adapters: int = 4,
        max_rank: int = 64,
        context_length: int = 1024,
        max_batch: int = 32,
        max_waiting: int = 1024,
        num_threads: int | None = None,
    ) -> None:
        context_length = min(context_length, base.description.context_length)
        self._base = base
        self._capabilities = Capabilities(
            name="embedded",
            version=f"torch-{torch.__version__}",
            dtype=str(base.model.dtype).removeprefix("torch."),
            base=base.description,
            max_adapters=max_adapters,
            max_rank=max_rank,
            context_length=context_length,
        )
        self._adapter_ids = {base.description.adapter_id}
        decoder = Decoder(base.model, max_batch=max_batch, max_positions=context_length)
        self._attached: set[str] = set()
        self._thread = DecodingThread(decoder, self._detach, max_waiting)
        if num_threads is not None:
            # In the thread itself: OpenMP counts threads per calling thread.
            self._thread.call(lambda: torch.set_num_threads(num_threads)).result()

    @classmethod
    def load(
        cls,
        base: str | Path = "smollm2",
        dtype: DtypeName = "auto",
        *,
        max_adapters: int = 4,
        max_rank: int = 64,
        context_length: int = 1024,
        max_batch: int = 32,
        max_waiting: int = 1024,
        num_threads: int | None = None,
    ) -> EmbeddedEngine:
        """Load a base and start the engine.

        Args:
            base: `smollm2`, a Hugging Face directory, a GGUF file or a hub id.
            dtype: of the base weights; `auto` takes the faster one on this machine.
            max_adapters: adapters loaded at the same time, the base not counted.
            max_rank: the largest LoRA rank accepted.
            context_length: prompt and answer together, in tokens; the base's own is the limit.
            max_batch: choices decoded side by side.
            max_waiting: choices that may wait for a slot; more are refused.
            num_threads: CPU threads of the decoder; None leaves it to torch.

        Raises:
            ValueError: if the base cannot be loaded.
        """

        def build() -> EmbeddedEngine:
            return cls(
                load_language_model(str(base), dtype),
                max_adapters=max_adapters,
                max_rank=max_rank,
                context_length=context_length,
                max_batch=max_batch,
                max_waiting=max_waiting,
                num_threads=num_threads,
            )

        # In a thread that ends: OpenMP keeps a team for each thread that ever computed, and with
        # more members than cores the decoder's team sleeps between any two products.
        with ThreadPoolExecutor(max_workers=1) as builder:
            return builder.submit(build).result()

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def tokenize(self, text: str) -> list[int]:
        return self._base.encode(text)

    async def generate(self, request: GenerateRequest) -> AsyncIterator[TokenDelta]:
        self._check(request)
        choice = Choice(request, self._base)
        try:
            self._thread.submit(choice)
        except EngineStopped as error:
            yield TokenDelta(finish=Finish("error", str(error)))
            return
        try:
            while True:
                delta = await choice.deltas.get()
                yield delta
                if delta.finish is not None:
                    return
        finally:
            if not choice.is_finished:
                self._thread.cancel(choice)

    async def ensure(self, files: AdapterFiles) -> None:
        if files.adapter_id in self._adapter_ids:
            return
        if files.kind in SCORING_KINDS:
            message = f"{files.adapter_id} scores answers and cannot write any; serve a policy."
            raise AdapterRefused("not_servable", message)
        limits = self._capabilities
        await asyncio.to_thread(validate_adapter, files, limits.base, max_rank=limits.max_rank)
        await asyncio.wrap_future(self._thread.call(lambda: self._attach(files)))
        self._adapter_ids.add(files.adapter_id)

    async def release(self, adapter_id: str) -> None:
        if adapter_id in self._adapter_ids - {self._base.description.adapter_id}:
            self._adapter_ids.remove(adapter_id)
            self._thread.release(adapter_id)

    async def health(self) -> Health:
        thread = self._thread
        return Health(
            thread.is_alive, thread.heartbeat_age_s, thread.num_running, thread.num_waiting
        )

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.close)
        for adapter_id in sorted(self._attached):
            self._detach(adapter_id)

    def _attach(self, files: AdapterFiles) -> None:
        """Load the weights; runs in the decoding thread, between two steps."""
        self._thread.keep(files.adapter_id)
        if files.adapter_id in self._attached:
            return
        if len(self._attached) >= self._capabilities.max_adapters:
            raise RuntimeError(
                f"the engine holds {len(self._attached)} adapters, as many as max_adapters "
                "allows; release one first"
            )
        load_adapter(self._base.model, files)
        self._attached.add(files.adapter_id)

    def _detach(self, adapter_id: str) -> None:
        """Free the weights; runs in the decoding thread or after its end."""
        self._base.model.remove_adapter(adapter_id)
        self._attached.remove(adapter_id)

    def _check(self, request: GenerateRequest) -> None:
        if request.adapter_id not in self._adapter_ids:
            raise UnknownAdapter(request.adapter_id)
        if not request.prompt_token_ids:
            raise ValueError("the prompt has no tokens; send at least one")
        num_prompt, max_tokens = len(request.prompt_token_ids), request.sampling.max_tokens
        if num_prompt + max_tokens > self._capabilities.context_length:
            raise ContextOverflow(num_prompt, max_tokens, self._capabilities.context_length)
