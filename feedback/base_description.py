"""What must match between a base model and its adapters; does not know how a model is loaded."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ContentHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16,128}$")]


def base_adapter_id(weights_hash: str) -> str:
    """Return the name under which the bare base is served: "base-" + 16 hex digits."""
    return f"base-{weights_hash[:16]}"


class BaseDescription(BaseModel):
    """The base model that one data directory is bound to.

    Example: {"base_id": "smollm2-135m-instruct", "weights_hash": "9f...", "tokenizer_hash":
    "01...", "template_hash": "ab...", "architecture": "LlamaForCausalLM", "num_layers": 30,
    "hidden_size": 576, "vocab_size": 49152, "context_length": 8192,
    "modules": {"model.layers.0.self_attn.q_proj": [576, 576]}}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_id: str = Field(min_length=1, description="logical name, never a path")
    weights_hash: ContentHash
    tokenizer_hash: str = Field(min_length=1)
    template_hash: str = Field(min_length=1)
    architecture: str
    num_layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    context_length: int = Field(ge=1, description="tokens")
    modules: dict[str, tuple[int, int]] = Field(
        description="every linear module by its full name, with [out_features, in_features]"
    )

    @property
    def adapter_id(self) -> str:
        """The id that channels and events use for the base without an adapter."""
        return base_adapter_id(self.weights_hash)

    def differences(self, other: "BaseDescription") -> list[str]:
        """Name the fields in which the two descriptions differ, in order."""
        return [
            name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)
        ]


def read_base_description(path: Path) -> BaseDescription:
    """Read a description from its JSON file.

    Raises ValueError (pydantic's ValidationError) when a field is missing or unknown.
    """
    return BaseDescription.model_validate_json(path.read_bytes())
