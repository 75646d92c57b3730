"""A random sentence encoder, the teacher of the text tower's tests."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from lmaczs.distillation.target_space import SentenceEncoder


@pytest.fixture(scope="module")
def teacher() -> SentenceEncoder:
    """Random BERT of four layers."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "rain", "bark"]
    words += ["##ing", "a", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    vocab = {word: index for index, word in enumerate(words)}
    model = BertModel(config).eval().requires_grad_(False)
    return SentenceEncoder(model, BertTokenizer(vocab=vocab, model_max_length=40))
