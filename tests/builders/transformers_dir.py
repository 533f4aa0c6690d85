"""A tiny transformers directory (config, tokenizer, safetensors) with the weights of `tests.builders.llama`.

It says the same as the GGUF of `tiny_llama_bpe`. Written without transformers or torch, so that tests of the file room
need neither.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.builders.llama import Shape, Weights, random_weights
from tests.builders.vocabulary import CHATML, CONTROL, Vocabulary, byte_level

TENSOR_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def tiny_llama_dir(path: Path, *, shape: Shape | None = None, chat_template: str | None = CHATML) -> Path:
    """A llama with the byte-level BPE vocabulary, in float32, that transformers opens and generates from."""
    shape = shape or Shape()
    vocabulary = byte_level()
    path.mkdir(parents=True, exist_ok=True)
    save_file(_renamed(random_weights(vocabulary, shape), shape), path / "model.safetensors", metadata={"format": "pt"})
    _write(path / "config.json", _config(vocabulary, shape))
    _write(path / "tokenizer.json", _tokenizer(vocabulary))
    special = {"bos_token": vocabulary.tokens[vocabulary.bos], "eos_token": vocabulary.tokens[vocabulary.eos]}
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.context}
    _write(
        path / "tokenizer_config.json",
        settings | special | ({"chat_template": chat_template} if chat_template else {}),
    )
    _write(
        path / "generation_config.json",
        {"bos_token_id": vocabulary.bos, "eos_token_id": vocabulary.eos, "pad_token_id": 0},
    )
    return path


def _config(vocabulary: Vocabulary, shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(vocabulary.tokens),
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.blocks,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads_kv,
        "head_dim": shape.width // shape.heads,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "dtype": "float32",
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
    }


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, token in enumerate(vocabulary.tokens)
            if vocabulary.types[index] == CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(vocabulary.tokens)},
            "merges": [list(pair) for pair in vocabulary.merges],
        },
    }


def _renamed(weights: Weights, shape: Shape) -> dict[str, NDArray[np.float32]]:
    """The tensors under the names transformers gives them."""
    renamed = {
        "model.embed_tokens.weight": weights["token_embd.weight"],
        "model.norm.weight": weights["output_norm.weight"],
        "lm_head.weight": weights["output.weight"],
    }
    for name, tensor in weights.items():
        if name.startswith("blk."):
            _, block, kind, _ = name.split(".")
            if kind in ("attn_q", "attn_k"):
                tensor = _halves_apart(tensor, shape.heads if kind == "attn_q" else shape.heads_kv)
            renamed[f"model.layers.{block}.{TENSOR_NAMES[kind]}.weight"] = tensor
    return renamed


def _halves_apart(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """GGUF keeps the two halves that RoPE turns together side by side; transformers keeps them half a head apart."""
    rows, columns = tensor.shape
    pairs = tensor.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
