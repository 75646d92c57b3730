"""The text tower of the small CLAP: tokenizer, student, files.

The student is a small `ClapTextModel` that starts from layers of a sentence encoder and
learns its projected embeddings (`lmaczs.distillation.target_space`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer, Tokenizer, processors
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    ClapTextConfig,
    ClapTextModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.clap.modeling_clap import ClapProjectionLayer

from lmaczs.distillation.target_space import SentenceEncoder
from lmaczs.utils.errors import InputError
from lmaczs.utils.files import atomic_write

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_TEACHER_SPECIAL_TOKENS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")


def train_bpe(texts: Sequence[str], vocab_size: int) -> str:
    """Train a lower-casing byte-level BPE; returns its JSON, for `clap_tokenizer`."""
    bpe = ByteLevelBPETokenizer(add_prefix_space=True, lowercase=True)
    bpe.train_from_iterator(
        texts, vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    return bpe.to_str()


def clap_tokenizer(bpe: str, max_tokens: int) -> PreTrainedTokenizerBase:
    """Make of a BPE the tokenizer of CLAP's text side: bos 0, pad 1, eos 2, unk 3."""
    backend = Tokenizer.from_str(bpe)
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=True
    )
    # The generic class: RobertaTokenizer forgets the lower-casing when it is reloaded.
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_tokens,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


class TextTower(nn.Module):
    """The text side of a ClapModel, under that model's module names."""

    def __init__(self, config: ClapTextConfig) -> None:
        super().__init__()
        self.text_model = ClapTextModel(config)
        self.text_projection = ClapProjectionLayer(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed tokens [B, n] as ClapModel does: [B, projection_dim], unit norm."""
        hidden = self.text_model(input_ids, attention_mask=attention_mask)
        return nn.functional.normalize(
            self.text_projection(hidden.pooler_output), dim=-1
        )

    @torch.no_grad()
    def embed(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """Embed texts in eval mode: [N, projection_dim], unit norm, on the CPU."""
        training, device = self.training, next(self.parameters()).device
        self.eval()
        batches = [
            tokenizer(
                list(texts[start : start + 128]),
                padding=True,
                truncation=True,
                return_tensors="pt",
            ).to(device)
            for start in range(0, len(texts), 128)
        ]
        result = torch.cat([self(b.input_ids, b.attention_mask) for b in batches])
        self.train(training)
        return result.cpu()


@torch.no_grad()
def build_student(
    teacher: SentenceEncoder,
    tokenizer: PreTrainedTokenizerBase,
    layers: Sequence[int],
    projection_dim: int,
    max_positions: int,
) -> TextTower:
    """Build a text tower, on the CPU, that starts from some `layers` of a BERT.

    The teacher's width, heads and feed-forward size are kept; its layers come in the
    student's order. Two of `max_positions` rows are never used.
    """
    bert: Any = teacher.model
    source = bert.config
    config = ClapTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=source.hidden_size,
        num_hidden_layers=len(layers),
        num_attention_heads=source.num_attention_heads,
        intermediate_size=source.intermediate_size,
        hidden_act=source.hidden_act,
        layer_norm_eps=source.layer_norm_eps,
        hidden_dropout_prob=0.0,  # the targets have no noise: the student underfits
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=max_positions,
        projection_dim=projection_dim,
    )
    student = TextTower(config)
    _copy_embeddings(teacher, student.text_model.embeddings, tokenizer)
    for target, index in zip(student.text_model.encoder.layer, layers, strict=True):
        target.load_state_dict(bert.encoder.layer[index].state_dict())
    projection = student.text_projection
    # a bias of one keeps the ReLU open at the start, so no half of the space is lost
    projection.linear1.bias.fill_(1.0)
    projection.linear2.bias.copy_(-projection.linear2.weight.sum(1))
    return student


def _copy_embeddings(
    teacher: SentenceEncoder, target: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    bert: Any = teacher.model
    source = bert.embeddings
    words = source.word_embeddings.weight
    vocab = teacher.tokenizer.get_vocab()
    for index in range(len(tokenizer)):
        pieces = _teacher_pieces(index, tokenizer, teacher.tokenizer, vocab)
        target.word_embeddings.weight[index] = words[pieces].mean(0)
    first = tokenizer.pad_token_id + 1  # position ids of tokens start here
    positions = target.position_embeddings.weight
    positions[first:] = source.position_embeddings.weight[: len(positions) - first]
    target.token_type_embeddings.weight[:] = source.token_type_embeddings.weight[:1]
    target.LayerNorm.load_state_dict(source.LayerNorm.state_dict())


def _teacher_pieces(
    index: int,
    tokenizer: PreTrainedTokenizerBase,
    other: PreTrainedTokenizerBase,
    vocab: dict[str, int],
) -> list[int]:
    """The teacher's word pieces that spell one token of the student."""
    if index < len(SPECIAL_TOKENS):
        return [vocab[_TEACHER_SPECIAL_TOKENS[index]]]
    surface = tokenizer.backend_tokenizer.decoder.decode(
        [tokenizer.convert_ids_to_tokens(index)]
    )
    inner = "##" + surface
    if inner in vocab:
        return [vocab[inner]]
    pieces = other(surface.strip(), add_special_tokens=False).input_ids
    return pieces or [other.unk_token_id]


def mean_off_diagonal(embeddings: Tensor) -> float:
    """Mean cosine of different rows of [N, D] embeddings of unit norm."""
    count = len(embeddings)
    total = (embeddings @ embeddings.T).sum() - embeddings.square().sum()
    return (total / (count * (count - 1))).item()


def save_text_tower(
    tower: TextTower,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    metrics: dict[str, float],
) -> Path:
    """Write config.json, model.safetensors (float16), tokenizer and metrics.json."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    tower.text_model.config.save_pretrained(folder)
    half = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in tower.state_dict().items()
    }
    with atomic_write(folder / "model.safetensors") as part:
        save_file(half, part, metadata={"format": "pt"})
    with atomic_write(folder / "metrics.json") as part:
        part.write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
    return folder


def load_text_tower(
    folder: str | Path,
) -> tuple[ClapTextConfig, dict[str, Any], dict[str, Tensor], PreTrainedTokenizerBase]:
    """Load what `save_text_tower` wrote, to build a ClapModel from.

    The text configuration; projection_dim and projection_hidden_act as ClapConfig takes
    them; the state dict in float32, to be loaded with strict=False; the tokenizer.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} is no text tower: {name} is missing; "
                "recipes/train_text.py writes one to <output_folder>/save/text_tower."
            )
    config = ClapTextConfig.from_pretrained(folder)
    state = load_file(folder / "model.safetensors")
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    projection = {
        "projection_dim": config.projection_dim,
        "projection_hidden_act": config.projection_hidden_act,
    }
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return config, projection, state, tokenizer
