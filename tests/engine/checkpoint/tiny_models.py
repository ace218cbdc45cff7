"""Tiny models of transformers and peft, for the tests of the files they are saved in."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import Any

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers: Any = import_module("transformers")


def gpt2(seed: int = 0, *, n_embd: int = 16) -> Any:
    """A GPT-2 whose head is tied to its embedding."""
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        n_layer=1,
        n_embd=n_embd,
        n_head=2,
        vocab_size=32,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def mixtral(seed: int = 0) -> Any:
    """A model that is saved under other names than it has in memory."""
    torch.manual_seed(seed)
    config = transformers.MixtralConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
        num_experts_per_tok=1,
    )
    return transformers.MixtralForCausalLM(config)


def lora(seed: int = 0, adapters: tuple[str, ...] = ("default",), **settings: Any) -> Any:
    """The GPT-2 with LoRA adapters that are not zero; the first is the one that is trained."""
    peft: Any = import_module("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks models for a property that is deprecated
        model = peft.get_peft_model(gpt2(), lora_config(**settings), adapter_name=adapters[0])
        for name in adapters[1:]:
            model.add_adapter(name, lora_config(**settings))
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter)
    return model


def lora_config(**settings: Any) -> Any:
    """LoRA on the attention, with a layer norm that is trained whole."""
    peft: Any = import_module("peft")
    whole = {"r": 2, "target_modules": ["c_attn"], "fan_in_fan_out": True} | settings
    return peft.LoraConfig(modules_to_save=["ln_f"], **whole)


def tokenizer() -> Any:
    """Words to numbers, one for each."""
    tokenizers: Any = import_module("tokenizers")
    words = {word: index for index, word in enumerate(["[UNK]", "[PAD]", "step", "bus"])}
    level = tokenizers.models.WordLevel(words, unk_token="[UNK]")
    plain = tokenizers.Tokenizer(level)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="[UNK]", pad_token="[PAD]"
    )


def same_weights(one: Any, other: Any) -> bool:
    """Whether two models, or state_dicts, have the same names and the same bits."""
    left, right = _state(one), _state(other)
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def _state(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.state_dict() if isinstance(model, torch.nn.Module) else model)


def copy_of(model: Any) -> dict[str, torch.Tensor]:
    """The weights as they are now."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
