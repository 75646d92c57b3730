"""Properties of the text tower: tokenizer, student, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapModel,
    PreTrainedTokenizerBase,
)

from lmaczs.distillation.target_space import SentenceEncoder
from lmaczs.distillation.text_tower import (
    TextTower,
    build_student,
    clap_tokenizer,
    load_text_tower,
    mean_off_diagonal,
    save_text_tower,
    train_bpe,
)

TEXTS = ["a dog barking", "This is the sound of church bells.", "Rain on a roof"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """Small tokenizer of the student's kind."""
    return clap_tokenizer(train_bpe(TEXTS * 50, vocab_size=350), max_tokens=20)


@pytest.fixture
def student(teacher: SentenceEncoder, tokenizer: PreTrainedTokenizerBase) -> TextTower:
    """Student of two layers, in eval mode."""
    torch.manual_seed(1)
    return build_student(teacher, tokenizer, (0, 3), 16, 24).eval()


def test_tokenizer_has_claps_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Bos 0, pad 1, eos 2, unk 3 surround and pad as ClapTextConfig expects."""
    ids = [tokenizer.bos_token_id, tokenizer.pad_token_id]
    ids += [tokenizer.eos_token_id, tokenizer.unk_token_id]
    assert ids == [0, 1, 2, 3]
    batch = tokenizer(["rain", "a dog barking on a roof"], padding=True)
    assert batch.input_ids[0][0] == 0 and 2 in batch.input_ids[0]
    assert batch.input_ids[0][-1] == 1 and batch.attention_mask[0][-1] == 0
    assert len(tokenizer("dog " * 99, truncation=True).input_ids) == 20


def test_tokenizer_ignores_case_after_reload(
    student: TextTower, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """Upper and lower case give the same ids, also when read from files."""
    save_text_tower(student, tokenizer, tmp_path, {})
    reloaded = load_text_tower(tmp_path)[3]
    for text in ("A Dog BARKING", "Ärger & 3 bells!"):
        expected = tokenizer(text.lower()).input_ids
        assert tokenizer(text).input_ids == reloaded(text).input_ids == expected
    assert reloaded.model_max_length == 20
    assert reloaded.model_input_names == ["input_ids", "attention_mask"]


def test_student_starts_from_the_teachers_layers(
    student: TextTower, teacher: SentenceEncoder
) -> None:
    """Layers 0 and 3 are copied, positions start two rows later."""
    ours, theirs = student.text_model, teacher.model
    for layer, index in zip(ours.encoder.layer, (0, 3), strict=True):
        expected = theirs.encoder.layer[index].state_dict()
        for name, value in layer.state_dict().items():
            assert torch.equal(value, expected[name])
    positions = ours.embeddings.position_embeddings.weight
    source = theirs.embeddings.position_embeddings.weight
    assert torch.equal(positions[2:], source[:22])


def test_student_words_are_the_teachers_word_pieces(
    student: TextTower, teacher: SentenceEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    """A whole word has its word piece's vector, <s> and <pad> those of BERT."""
    ours = student.text_model.embeddings.word_embeddings.weight
    words = teacher.model.embeddings.word_embeddings.weight
    vocab = teacher.tokenizer.get_vocab()
    dog = tokenizer("dog", add_special_tokens=False).input_ids
    assert len(dog) == 1
    assert torch.equal(ours[dog[0]], words[vocab["dog"]])
    assert torch.equal(ours[0], words[vocab["[CLS]"]])
    assert torch.equal(ours[1], words[vocab["[PAD]"]])


def test_embed_equals_single_texts_and_keeps_the_mode(
    student: TextTower, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Padding does not change an embedding; a student in training stays so."""
    student.train()
    batch = student.embed(["a dog barking on a roof", "rain"], tokenizer)
    single = student.embed(["rain"], tokenizer)
    assert student.training
    torch.testing.assert_close(batch[1:], single, atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.norm(dim=-1), torch.ones(2))


def test_saved_tower_is_the_text_side_of_a_clap_model(
    student: TextTower, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """A ClapModel built from the files gives the tower's embeddings up to float16."""
    save_text_tower(student, tokenizer, tmp_path, {"held_out_cosine": 0.5})
    config, projection, state, reloaded = load_text_tower(tmp_path)
    audio = ClapAudioConfig(
        patch_embeds_hidden_size=8,
        hidden_size=16,
        depths=[1, 1],
        num_attention_heads=[1, 2],
        spec_size=64,
        window_size=4,
        num_mel_bins=32,
    )
    model = ClapModel(
        ClapConfig(
            text_config=config.to_dict(), audio_config=audio.to_dict(), **projection
        )
    ).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert not [name for name in missing if name.startswith("text")]
    batch = reloaded(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        embedded = model.get_text_features(**batch).pooler_output
    expected = student.embed(TEXTS, tokenizer)
    torch.testing.assert_close(embedded, expected, atol=5e-3, rtol=0)


def test_load_text_tower_names_what_is_missing(tmp_path: Path) -> None:
    """A folder that is no tower says so, and which recipe writes one."""
    with pytest.raises(ValueError, match=r"config\.json is missing.*train_text\.py"):
        load_text_tower(tmp_path)


def test_mean_off_diagonal_by_hand() -> None:
    """The mean over pairs of different rows: here one pair, whose cosine is 0.6."""
    assert mean_off_diagonal(torch.tensor([[1.0, 0.0], [0.6, 0.8]])) == pytest.approx(
        0.6
    )
