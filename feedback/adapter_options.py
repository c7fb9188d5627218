"""Refuse what an adapter's PEFT config asks for and an engine could not do, naming why.

It does not look at the weights.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from feedback.adapter_files import AdapterRefused
from feedback.base_description import BaseDescription

# What a plain LoRA config says. Any other option must be absent or off: PEFT's variants (DoRA,
# rsLoRA, modules_to_save, ...) are ignored or not loaded by one engine or another, and of options
# not known here nobody can tell. alpha_pattern too: vLLM scales every module by lora_alpha / r.
_KNOWN_OPTIONS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",  # set by default, read only with megatron_config
        "peft_type",
        "qalora_group_size",  # set by default, read only with use_qalora
        "r",
        "rank_pattern",
        "revision",
        "target_modules",
        "task_type",
    }
)
# Other initialisations (pissa, olora, loftq, ...) change the base weights as well.
_KEEPS_BASE_WEIGHTS = (None, True, False, "gaussian", "orthogonal", "eva")
_UNSERVED_MODULES = ("lm_head", "embed_tokens")


def check_options(config: Mapping[str, Any], base: BaseDescription, max_rank: int) -> None:
    """Check adapter_config.json against what every engine with this base can serve.

    Raises AdapterRefused: unsupported_part, rank_too_large, unknown_module, shape_mismatch or
    no_effect.
    """
    _check_variant(config)
    _check_rank(config, max_rank)
    _check_alpha(config)
    _check_target_modules(config, base)


def _check_variant(config: Mapping[str, Any]) -> None:
    found = sorted(name for name in config if name not in _KNOWN_OPTIONS and config[name])
    if config.get("bias", "none") != "none":
        found.append("bias")
    if config.get("init_lora_weights") not in _KEEPS_BASE_WEIGHTS:
        found.append("init_lora_weights")
    if config.get("peft_type") != "LORA":
        found.append("peft_type")
    targets = config.get("target_modules")
    if not isinstance(targets, str) and not _is_list_of_names(targets):
        found.append("target_modules of another form")
    elif isinstance(targets, list):
        found += [target for target in targets if target.split(".")[-1] in _UNSERVED_MODULES]
    if found:
        raise AdapterRefused(
            "unsupported_part",
            f"adapter_config.json asks for {', '.join(found)}, which not every engine can load;"
            " train a plain LoRA adapter without it.",
        )


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _check_rank(config: Mapping[str, Any], max_rank: int) -> None:
    rank, pattern = config.get("r"), config.get("rank_pattern") or {}
    is_pattern = isinstance(pattern, dict) and all(type(n) is int for n in pattern.values())
    if type(rank) is not int or rank < 1 or not is_pattern:
        message = f"adapter_config.json has r={rank!r}; r and rank_pattern take positive integers."
        raise AdapterRefused("shape_mismatch", message)
    largest = max([rank, *pattern.values()])
    if largest > max_rank:
        raise AdapterRefused(
            "rank_too_large",
            f"The adapter has rank {largest} (r or rank_pattern), the engine takes {max_rank}"
            " at most; train with a smaller r or raise the engine's limit.",
        )
    if largest > rank:
        raise AdapterRefused(
            "rank_too_large",
            f"rank_pattern has rank {largest}, above r={rank}; train with r={largest} everywhere.",
        )
    if any(value != rank for value in pattern.values()):
        raise AdapterRefused(
            "unsupported_part",
            "adapter_config.json has a rank_pattern, by which engines scale differently;"
            " train with one r for all modules.",
        )


def _check_alpha(config: Mapping[str, Any]) -> None:
    alpha = config.get("lora_alpha")
    if type(alpha) not in (int, float):
        message = f"adapter_config.json has lora_alpha={alpha!r}; give the number of the training."
        raise AdapterRefused("unsupported_part", message)
    if alpha == 0:
        message = "lora_alpha is 0, so the adapter changes nothing; train with a positive one."
        raise AdapterRefused("no_effect", message)


def _check_target_modules(config: Mapping[str, Any], base: BaseDescription) -> None:
    targets = config.get("target_modules")
    if not isinstance(targets, list):  # a regular expression: the weights themselves will tell
        return
    unknown = [target for target in targets if not targeted_modules(base.modules, [target])]
    if unknown:
        raise AdapterRefused(
            "unknown_module",
            f"target_modules names {', '.join(unknown)}, which {base.architecture} does not have;"
            " train on modules of this base.",
        )


def targeted_modules(modules: Iterable[str], targets: Iterable[str]) -> set[str]:
    """Return the modules that PEFT would wrap: a target matches whole or as a dotted suffix."""
    suffixes = tuple(f".{target}" for target in targets)
    return {module for module in modules if f".{module}".endswith(suffixes)}
