"""Jobs by name: the kind of a job and the settings that make it.

The models are of the form of their namesakes (grouped queries, gated MLPs, experts per token), so small that a laptop's cores
train them; `--set` gives them their namesake's sizes back, `--set num_layers=8` more layers.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("mix", {}),
    # Llama 3 8B: 32 layers of 4096, 32 heads over 8 of keys and values, MLP 3.5 times as wide
    "llama-3-8b-like": (
        "mix",
        {"num_layers": 4, "hidden_size": 128, "num_heads": 16, "num_kv_heads": 4, "ffn_size": 448, "vocab_size": 256},
    ),
    # Mixtral 8x7B: 8 experts, 2 per token, each 3.5 times as wide as the layer, 32 heads over 8
    "mixtral-like": (
        "mix",
        {
            "num_layers": 2,
            "hidden_size": 64,
            "num_heads": 8,
            "num_kv_heads": 2,
            "ffn_size": 224,
            "num_experts": 8,
            "experts_per_token": 2,
            "dp": 2,
            "ep": 2,
        },
    ),
    # DeepSeek-V3: 256 narrow experts (2048 of 7168), 8 per token; its latent attention is plain attention here, and it has no
    # shared expert
    "deepseek-v3-like": (
        "mix",
        {
            "num_layers": 2,
            "hidden_size": 112,
            "num_heads": 8,
            "num_kv_heads": 8,
            "ffn_size": 32,
            "num_experts": 32,
            "experts_per_token": 8,
            "pp": 2,
            "dp": 2,
            "ep": 2,
        },
    ),
}
"""Name to kind and settings."""
