"""Properties of the text tower: corpus, tokenizer, target space, student, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    ClapAudioConfig,
    ClapConfig,
    ClapModel,
    PreTrainedTokenizerBase,
)

from lmaczs.text_tower import (
    ESC50_LABELS,
    SOUND_TEMPLATES,
    Corpus,
    Teacher,
    TextTower,
    build_corpus,
    build_student,
    cached_embeddings,
    fit_sound_space,
    load_text_tower,
    mean_off_diagonal,
    paraphrase_accuracy,
    present_participle,
    read_class_names,
    read_wordnet,
    save_text_tower,
    train_tokenizer,
)

NOUNS = """\
  1 This is a licence line | that is no synset
00001740 05 n 02 dog 0 domestic_dog 0 001 @ 00002 n 0000 | a (tame) wolf; "The Dog ran"
00001750 04 n 01 bark 0 000 | the sound made by a dog
00001760 21 n 01 money 1 000 | the most common medium of exchange; a currency
"""
VERBS = '00003000 39 v 01 bark 4 000 01 + 02 00 | make barking sounds; "dogs bark"\n'
COUNTS = "bark%1:04:00:: 1 7\ndog%1:05:00:: 1 42\nbark%2:39:04:: 1 3\n"
TEXTS = ["a dog barking", "This is the sound of church bells.", "Rain on a roof"]


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """Folder with four synsets in WordNet's own format."""
    (tmp_path / "data.noun").write_text(NOUNS)
    (tmp_path / "data.verb").write_text(VERBS)
    (tmp_path / "cntlist.rev").write_text(COUNTS)
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """Small tokenizer of the student's kind."""
    return train_tokenizer(TEXTS * 50, vocab_size=350, max_tokens=20)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
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
    return Teacher(model, BertTokenizer(vocab=vocab, model_max_length=40))


@pytest.fixture
def student(teacher: Teacher, tokenizer: PreTrainedTokenizerBase) -> TextTower:
    """Student of two layers, in eval mode."""
    torch.manual_seed(1)
    return build_student(teacher, tokenizer, (0, 3), 16, 24).eval()


def _names_in_templates(names: int = 40, templates: int = 5, dim: int = 32) -> Tensor:
    """Narrow cone: a common direction, a name, a strong template, some noise."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    offset, name, template = draw(1, 1, dim), draw(names, 1, dim), draw(templates, dim)
    noise = draw(names, templates, dim)
    data = 4 * offset + name + 2 * template + 0.1 * noise
    return torch.nn.functional.normalize(data, dim=-1)


def test_esc50_labels_are_the_fifty_in_target_order() -> None:
    """Targets 0, 11, 40 and 49 are those of ESC-50, underscores are spaces."""
    assert len(set(ESC50_LABELS)) == 50
    assert ESC50_LABELS[0] == "dog"
    assert ESC50_LABELS[11] == "sea waves"
    assert ESC50_LABELS[40] == "helicopter"
    assert ESC50_LABELS[49] == "hand saw"


def test_read_class_names_keeps_quoted_commas(tmp_path: Path) -> None:
    """A display name with a comma stays one name, in lower case."""
    path = tmp_path / "names.csv"
    path.write_text('index,mid,display_name\n0,/m/1,"Child speech, kid"\n1,/m/2,Rain\n')
    assert read_class_names(path) == ["child speech, kid", "rain"]


@pytest.mark.parametrize("content", [None, "index,name\n0,Rain\n"])
def test_read_class_names_names_the_bad_file(
    tmp_path: Path, content: str | None
) -> None:
    """A missing file or column is one ValueError that names option and file."""
    path = tmp_path / "names.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"class_names: .*names\.csv"):
        read_class_names(path)


def test_read_wordnet_parses_words_gloss_and_counts(wordnet: Path) -> None:
    """Underscores, remarks, examples and second senses are parsed, common first."""
    dog, bark, verb, money = read_wordnet(wordnet)
    assert dog.lemmas == ("dog", "domestic dog")
    assert (dog.pos, dog.lex_file, dog.count) == ("n", 5, 42)
    assert dog.definition == "a wolf"
    assert dog.examples == ("The Dog ran",)
    assert (bark.count, verb.count, money.count) == (7, 3, 0)
    assert money.definition == "the most common medium of exchange"
    assert [s.is_sound for s in (dog, bark, verb, money)] == [False, True, True, False]


def test_read_wordnet_names_the_missing_file(wordnet: Path) -> None:
    """A folder without the counts says which file is missing."""
    (wordnet / "cntlist.rev").unlink()
    with pytest.raises(ValueError, match=r"wordnet_folder: .*cntlist\.rev"):
        read_wordnet(wordnet)


@pytest.mark.parametrize(
    ("verb", "form"),
    [
        ("bark", "barking"),
        ("bake", "baking"),
        ("see", "seeing"),
        ("lie", "lying"),
        ("hum", "humming"),
        ("howl", "howling"),
        ("sing", "singing"),
        ("ring out", "ringing out"),
    ],
)
def test_present_participle(verb: str, form: str) -> None:
    """Silent e, ie, doubled consonants and particles follow English spelling."""
    assert present_participle(verb) == form


def test_build_corpus_is_reproducible_and_bounded(wordnet: Path) -> None:
    """Same seed, same corpus; no duplicates, no long text, at most the size."""
    names, synsets = ["dog bark", "rain"], read_wordnet(wordnet)
    corpus = build_corpus(names, synsets, 60, seed=1)
    assert corpus == build_corpus(names, synsets, 60, seed=1)
    assert corpus.key != build_corpus(names, synsets, 60, seed=2).key
    assert len(corpus.texts) == len(set(corpus.texts)) <= 60
    assert len(build_corpus(names, synsets, 10, seed=1).texts) == 10
    assert max(len(text.split()) for text in corpus.texts) <= 16


def test_build_corpus_marks_texts_about_sounds(wordnet: Path) -> None:
    """Names in every template and glosses of sounds are marked, others are not."""
    corpus = build_corpus(["rain"], read_wordnet(wordnet), 200, seed=1)
    about = dict(zip(corpus.texts, corpus.is_sound, strict=True))
    assert all(about[template.format("rain")] for template in SOUND_TEMPLATES)
    assert about["This is a sound of silence."]
    assert about["the sound of barking"] and about["make barking sounds"]
    assert not about["dog"] and not about["a wolf"]


def test_corpus_key_depends_on_order() -> None:
    """Embeddings are cached by row, so another order is another key."""
    first, second = Corpus(("a", "b"), (True, True)), Corpus(("b", "a"), (True, True))
    assert first.key != second.key


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


def test_teacher_embedding_is_the_masked_mean(teacher: Teacher) -> None:
    """Batched, sorted, padded embeddings equal those of a text alone."""
    texts = ["dog barking rain a", "rain", "a dog"]
    for text, row in zip(texts, teacher.embed(texts, batch_size=2), strict=True):
        ids = torch.tensor([teacher.tokenizer(text).input_ids])
        mean = teacher.model(ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(row, mean / mean.norm(), atol=1e-5, rtol=0)


def test_cached_embeddings_are_read_not_computed(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call needs no teacher, and nothing partial is left beside."""
    corpus = Corpus(("a dog", "rain"), (True, True))
    first = cached_embeddings(teacher, corpus, tmp_path / "cache.npy")
    monkeypatch.setattr(Teacher, "embed", None)
    second = cached_embeddings(teacher, corpus, tmp_path / "cache.npy")
    assert torch.equal(first, second)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.npy"]


def test_sound_space_spreads_names_and_ignores_templates() -> None:
    """In a cone with strong templates: names apart, one name's templates together."""
    data = _names_in_templates()
    space = fit_sound_space(data, 16, 0.1)
    mapped = space(data)
    assert mean_off_diagonal(data[:, 1]) > 0.5
    assert abs(mean_off_diagonal(mapped[:, 1])) < 0.05
    assert (mapped[:, 0] * mapped[:, 1]).sum(-1).mean() > 0.9
    torch.testing.assert_close(mapped.norm(dim=-1), torch.ones(40, 5))


def test_sound_space_whitens_what_it_keeps() -> None:
    """Scatter of names plus shrunk scatter within names is the identity (oracle)."""
    data, shrinkage = _names_in_templates().double(), 0.3
    space = fit_sound_space(data, 8, shrinkage)
    within, between = torch.zeros(32, 32).double(), torch.zeros(32, 32).double()
    mean = data.reshape(-1, 32).mean(0)
    for name in data:
        centre = name.mean(0)
        between += torch.outer(centre - mean, centre - mean) / len(data)
        for row in name:
            within += torch.outer(row - centre, row - centre) / data[..., 0].numel()
    within += shrinkage * between.diagonal().mean() * torch.eye(32)
    matrix = space.matrix.double()
    torch.testing.assert_close(
        matrix @ (within + between) @ matrix.T, torch.eye(8).double(), atol=1e-4, rtol=0
    )


def test_sound_space_of_fewer_dimensions_is_a_prefix() -> None:
    """Directions are ranked: the first rows do not depend on how many are kept."""
    data = _names_in_templates()
    small, large = fit_sound_space(data, 4, 0.5), fit_sound_space(data, 12, 0.5)
    torch.testing.assert_close(small.matrix, large.matrix[:4])


def test_student_starts_from_the_teachers_layers(
    student: TextTower, teacher: Teacher
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
    student: TextTower, teacher: Teacher, tokenizer: PreTrainedTokenizerBase
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


def test_paraphrase_accuracy_and_off_diagonal_by_hand() -> None:
    """Two of three texts are nearest to their prompt; the one pair's cosine is .6."""
    prompts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert paraphrase_accuracy(texts, prompts, [0, 1, 0]) == pytest.approx(2 / 3)
    assert mean_off_diagonal(prompts) == pytest.approx(0.6)
