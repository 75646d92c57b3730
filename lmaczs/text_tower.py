"""The text tower of the small CLAP: corpus, tokenizer, teacher, targets, student.

A sentence encoder teaches a small `ClapTextModel`. Its space is narrow for sounds (all
texts "the sound of ..." are alike), so the student learns the teacher's embeddings in
the space of `fit_sound_space`, where names of different sounds are nearly orthogonal.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer, Tokenizer, processors
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    ClapTextConfig,
    ClapTextModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.clap.modeling_clap import ClapProjectionLayer

logger = logging.getLogger(__name__)

ESC50_LABELS: tuple[str, ...] = tuple(
    label.strip().replace("_", " ")
    for label in """
    dog rooster pig cow frog cat hen insects sheep crow
    rain sea_waves crackling_fire crickets chirping_birds water_drops wind
    pouring_water toilet_flush thunderstorm
    crying_baby sneezing clapping breathing coughing footsteps laughing
    brushing_teeth snoring drinking_sipping
    door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening
    washing_machine vacuum_cleaner clock_alarm clock_tick glass_breaking
    helicopter chainsaw siren car_horn engine train church_bells airplane
    fireworks hand_saw""".split()
)
"""The fifty labels of ESC-50, in the order of its targets."""

SOUND_TEMPLATES: tuple[str, ...] = (
    "{}",
    "This is a sound of {}.",
    "the sound of {}",
    "a recording of {}",
    "I can hear {}",
    "{} in the background",
    "a clip of {}",
    "{} sound",
)
"""Ways to ask for a sound by its name; the second is the default prompt."""

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_TEACHER_SPECIAL_TOKENS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
_MAX_WORDS = 16
_SOUND_GLOSS = re.compile(
    r"\b(sounds?|noises?|noisy|noisily|cry|cries|ring(s|ing)?|loud(ly)?|utter(s|ed)?"
    r"|audible|bells?|roar|whistl\w*|sing(s|ing)?|music(al)?|voice|buzz\w*|hum(ming)?"
    r"|bark\w*|shout\w*|scream\w*|explo\w+|clatter\w*|hiss\w*|rustl\w*|rattl\w*)\b"
)
# WordNet's lexicographer files whose nouns make or are heard as sounds: act, animal,
# artifact, body, event, phenomenon, person.
_SOUNDING_NOUN_FILES = frozenset({4, 5, 6, 8, 11, 18, 19})


@dataclass(frozen=True)
class Synset:
    """One WordNet synset: its words, definition and examples, and how common it is."""

    pos: str
    lex_file: int
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    count: int

    @property
    def is_sound(self) -> bool:
        """Whether the definition speaks of a sound."""
        return _SOUND_GLOSS.search(self.definition) is not None


@dataclass(frozen=True)
class Corpus:
    """Short texts without duplicates, and which of them speak of sounds."""

    texts: tuple[str, ...]
    is_sound: tuple[bool, ...]

    @property
    def key(self) -> str:
        """Hash of the texts in their order."""
        return hashlib.sha256("\n".join(self.texts).encode()).hexdigest()[:16]


def read_class_names(path: str | Path) -> list[str]:
    """Read the class names of AudioSet, in lower case.

    Parameters
    ----------
    path : str or Path
        CSV file with the columns index, mid, display_name.

    Returns
    -------
    list of str
        The names in the file's order.

    Raises
    ------
    ValueError
        If the file is missing or has no column display_name.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"class_names: {path} does not exist; give AudioSet's class map, a CSV "
            "file with the columns index,mid,display_name."
        )
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if "display_name" not in (reader.fieldnames or ()):
            raise ValueError(f"class_names: {path} has no column display_name.")
        return [row["display_name"].lower() for row in reader]


def read_wordnet(folder: str | Path) -> list[Synset]:
    """Read the nouns and verbs of WordNet's plain files, the most common first.

    Parameters
    ----------
    folder : str or Path
        Folder with data.noun, data.verb and cntlist.rev (Debian: wordnet-base).

    Returns
    -------
    list of Synset
        In descending order of the tagged count of their most common word.

    Raises
    ------
    ValueError
        If one of the files is missing.
    """
    folder = Path(folder)
    for name in ("data.noun", "data.verb", "cntlist.rev"):
        if not (folder / name).is_file():
            raise ValueError(
                f"wordnet_folder: {folder / name} does not exist; install WordNet's "
                "database (Debian: wordnet-base) or give its folder."
            )
    counts: Counter[str] = Counter()
    for line in (folder / "cntlist.rev").read_text("utf-8").splitlines():
        sense, _, count = line.split()
        counts[sense.split("%")[0] + sense.split("%")[1][0]] += int(count)
    synsets = [
        _parse_synset(line, counts)
        for name in ("data.noun", "data.verb")
        for line in (folder / name).read_text("utf-8").splitlines()
        if not line.startswith("  ")  # the licence
    ]
    return sorted(synsets, key=lambda synset: -synset.count)


def _parse_synset(line: str, counts: Counter[str]) -> Synset:
    fields, _, gloss = line.partition(" | ")
    _, lex_file, pos, n_words, *rest = fields.split()
    words = rest[: 2 * int(n_words, 16) : 2]
    number = {"n": "1", "v": "2"}[pos]
    examples = tuple(re.findall(r'"([^"]+)"', gloss))
    definition = re.sub(r"\s*\([^)]*\)", "", gloss.split('; "')[0]).split(";")[0]
    return Synset(
        pos,
        int(lex_file),
        tuple(word.replace("_", " ").lower() for word in words),
        definition.strip().lower(),
        examples,
        max(counts[word.lower() + number] for word in words),
    )


def present_participle(verb: str) -> str:
    """Form the -ing form of a regular English verb ("bake" -> "baking")."""
    head, _, tail = verb.partition(" ")
    if head.endswith("ie"):
        head = head[:-2] + "y"
    elif re.search(r"[^eoy]e$", head) and len(head) > 2:
        head = head[:-1]
    elif re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]", head):
        head += head[-1]
    return f"{head}ing {tail}".strip()


def build_corpus(
    names: Sequence[str], synsets: Sequence[Synset], size: int, seed: int
) -> Corpus:
    """Collect short texts about sounds first, then about everything that is common.

    Parameters
    ----------
    names : sequence of str
        Names of sounds; each enters in every template.
    synsets : sequence of Synset
        Synsets of WordNet, the most common first.
    size : int
        Number of texts at most.
    seed : int
        Seed of the compositions of names, nouns and verbs.

    Returns
    -------
    Corpus
        At most `size` different texts of at most 16 words.
    """
    rng = random.Random(seed)
    sounds = list(dict.fromkeys([*_name_texts(names), *_gloss_texts(synsets)]))
    composed = _compositions(names, synsets, rng, size // 4)
    texts = list(dict.fromkeys([*sounds, *composed, *_common_texts(synsets, rng)]))
    texts = [text for text in texts if len(text.split()) <= _MAX_WORDS][:size]
    about_sound = set(sounds)
    return Corpus(tuple(texts), tuple(text in about_sound for text in texts))


def _name_texts(names: Sequence[str]) -> list[str]:
    texts = [t.format(name) for name in [*names, "silence"] for t in SOUND_TEMPLATES]
    return [*texts, "nothing can be heard", "a silent room", "complete silence"]


def _gloss_texts(synsets: Sequence[Synset]) -> list[str]:
    texts = []
    for synset in filter(lambda synset: synset.is_sound, synsets):
        lemma = synset.lemmas[0]
        heard = present_participle(lemma) if synset.pos == "v" else lemma
        texts += [*synset.lemmas, f"the sound of {heard}", synset.definition]
        texts += synset.examples
    return texts


def _compositions(
    names: Sequence[str], synsets: Sequence[Synset], rng: random.Random, count: int
) -> list[str]:
    verbs = [s.lemmas[0] for s in synsets if s.pos == "v" and s.is_sound]
    verbs += [s.lemmas[0] for s in synsets if s.pos == "v"][:500]
    nouns = [
        lemma
        for s in synsets
        if s.pos == "n" and s.lex_file in _SOUNDING_NOUN_FILES and s.count
        for lemma in s.lemmas[:1]
    ]
    texts = []
    for index in range(count):
        noun, verb = rng.choice(nouns), present_participle(rng.choice(verbs))
        first, second = rng.choice(names), rng.choice(names)
        texts.append(
            (
                f"{_article(noun)} {verb}",
                f"{verb} {noun}",
                f"{_article(noun)} {verb} near {_article(rng.choice(nouns))}",
                rng.choice(("the sound of ", "a recording of ")) + _article(noun),
                f"{first} and {second}",
                f"{first} of {_article(noun)}",
            )[index % 6]
        )
    return texts


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _common_texts(synsets: Sequence[Synset], rng: random.Random) -> list[str]:
    texts = []
    for synset in synsets:
        template = rng.choice(SOUND_TEMPLATES)
        texts.append(synset.lemmas[0])
        if synset.pos == "v" or synset.lex_file in _SOUNDING_NOUN_FILES:
            texts += [synset.definition, *synset.examples[:1]]
            texts.append(template.format(synset.lemmas[0]))
        elif synset.count > 1:
            texts.append(synset.definition)
    return texts


def train_tokenizer(
    texts: Sequence[str], vocab_size: int, max_tokens: int
) -> PreTrainedTokenizerBase:
    """Train a lower-casing byte-level BPE tokenizer as CLAP's text side expects it.

    Parameters
    ----------
    texts : sequence of str
        Texts to learn the merges from.
    vocab_size : int
        Number of tokens, special tokens included.
    max_tokens : int
        Longest text in tokens that the tokenizer admits (`model_max_length`).

    Returns
    -------
    PreTrainedTokenizerBase
        With bos 0, pad 1, eos 2, unk 3; the first word has a space before it.
    """
    bpe = ByteLevelBPETokenizer(add_prefix_space=True, lowercase=True)
    bpe.train_from_iterator(
        texts, vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    backend = Tokenizer.from_str(bpe.to_str())
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


@dataclass(frozen=True)
class Teacher:
    """A sentence encoder: mean of the last hidden states over the tokens, L2 norm 1."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Teacher:
        """Load a sentence encoder from a folder or a Hub id."""
        model = AutoModel.from_pretrained(source).eval().requires_grad_(False)
        return cls(model, AutoTokenizer.from_pretrained(source))

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 128) -> Tensor:
        """Embed texts, the shortest first so that little padding is computed.

        Parameters
        ----------
        texts : sequence of str
            N texts.
        batch_size : int
            Texts per forward pass.

        Returns
        -------
        Tensor
            [N, D] float32, unit norm.
        """
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        result = torch.empty(len(texts), self.model.config.hidden_size)
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
            result[rows] = self._embed_batch([texts[row] for row in rows]).cpu()
        return result

    def _embed_batch(self, texts: list[str]) -> Tensor:
        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=64, return_tensors="pt"
        ).to(self.model.device)
        mask = batch["attention_mask"].unsqueeze(-1)
        hidden = self.model(**batch).last_hidden_state
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def cached_embeddings(teacher: Teacher, corpus: Corpus, path: str | Path) -> Tensor:
    """Embed a corpus once; later calls read the file.

    Parameters
    ----------
    teacher : Teacher
        Sentence encoder.
    corpus : Corpus
        N texts.
    path : str or Path
        .npy file, float16; the caller puts the corpus's key into its name.

    Returns
    -------
    Tensor
        [N, D] float32, unit norm up to float16.
    """
    path = Path(path)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, teacher.embed(corpus.texts).half().numpy())
        os.replace(partial, path)
    return torch.from_numpy(np.load(path)).float()


@dataclass(frozen=True)
class SoundSpace:
    """An affine map of sentence embeddings and L2: z = norm(A (e - mu))."""

    mean: Tensor
    matrix: Tensor

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Map sentence embeddings [..., D] to targets [..., d] of unit norm."""
        return nn.functional.normalize((embeddings - self.mean) @ self.matrix.T, dim=-1)


def fit_sound_space(embeddings: Tensor, dim: int, shrinkage: float) -> SoundSpace:
    """Fit the map in which names of sounds spread and templates do not matter.

    Fisher's discriminant directions with shrinkage: a name is a class, its templates
    are its members. Directions are ranked by the scatter between the names' means
    over the scatter within names (which holds what a template adds), and along each
    the whole scatter is whitened, so different names are nearly orthogonal.

    Parameters
    ----------
    embeddings : Tensor
        [names, templates, D], sentence embeddings of each name in each template.
    dim : int
        Number of dimensions to keep, at most D.
    shrinkage : float
        Multiple of the mean variance between names that is added to the scatter
        within names; the larger, the nearer to plain PCA without whitening.

    Returns
    -------
    SoundSpace
        mean [D] and matrix [dim, D].

    References
    ----------
    Friedman, "Regularized Discriminant Analysis", JASA 1989.
    """
    data = embeddings.double()
    means = data.mean(1)
    mean = means.mean(0)
    within = (data - means.unsqueeze(1)).flatten(0, 1)
    within = within.T @ within / len(within)
    between = (means - mean).T @ (means - mean) / len(means)
    size = len(mean)
    within = within + shrinkage * between.trace() / size * torch.eye(size).double()
    inverse = torch.linalg.inv(torch.linalg.cholesky(within))
    ratios, directions = torch.linalg.eigh(inverse @ between @ inverse.T)
    ratios, directions = ratios.flip(0)[:dim], directions.flip(1)[:, :dim]
    matrix = (directions / (1 + ratios).sqrt()).T @ inverse
    return SoundSpace(mean.float(), matrix.float())


class TextTower(nn.Module):
    """The text side of a ClapModel, under the module names that it has there.

    Parameters
    ----------
    config : ClapTextConfig
        Its projection_dim and projection_hidden_act give the projection.
    """

    def __init__(self, config: ClapTextConfig) -> None:
        super().__init__()
        self.text_model = ClapTextModel(config)
        self.text_projection = ClapProjectionLayer(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed texts as ClapModel.get_text_features does.

        Parameters
        ----------
        input_ids : Tensor
            [B, tokens] int64.
        attention_mask : Tensor
            [B, tokens], 1 for tokens, 0 for padding.

        Returns
        -------
        Tensor
            [B, projection_dim], unit norm.
        """
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


def build_student(
    teacher: Teacher,
    tokenizer: PreTrainedTokenizerBase,
    layers: Sequence[int],
    projection_dim: int,
    max_positions: int = 80,
) -> TextTower:
    """Build a text tower that starts from some of the teacher's layers.

    Parameters
    ----------
    teacher : Teacher
        A BERT; its width, heads and feed-forward size are taken over.
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the student.
    layers : sequence of int
        Indices of the teacher's layers to copy, in the student's order.
    projection_dim : int
        Dimensions of the joint space.
    max_positions : int
        Rows of the position table; two of them are never used.

    Returns
    -------
    TextTower
        Student on the CPU.
    """
    source = teacher.model.config
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
        target.load_state_dict(teacher.model.encoder.layer[index].state_dict())
    _linearise(student.text_projection)
    return student


@torch.no_grad()
def _copy_embeddings(
    teacher: Teacher, target: nn.Module, tokenizer: PreTrainedTokenizerBase
) -> None:
    source = teacher.model.embeddings
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
    """Word pieces of another tokenizer that spell one token of ours."""
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


@torch.no_grad()
def _linearise(projection: ClapProjectionLayer) -> None:
    # A bias of one keeps the ReLU open at the start, so no half of the space is lost.
    projection.linear1.bias.fill_(1.0)
    projection.linear2.bias.copy_(-projection.linear2.weight.sum(1))


def paraphrase_accuracy(
    embeddings: Tensor, prompts: Tensor, targets: Sequence[int]
) -> float:
    """Share of texts whose nearest prompt is their own.

    Parameters
    ----------
    embeddings : Tensor
        [N, D] embeddings of the texts, unit norm.
    prompts : Tensor
        [classes, D] embeddings of the prompts, unit norm.
    targets : sequence of int
        The class of each text.

    Returns
    -------
    float
        In [0, 1].
    """
    nearest = (embeddings @ prompts.T).argmax(1)
    return (nearest == torch.as_tensor(targets)).double().mean().item()


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
    """Write config.json, model.safetensors (float16), tokenizer and metrics.json.

    Parameters
    ----------
    tower : TextTower
        Trained text tower.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    folder : str or Path
        Where to write; made if it is missing.
    metrics : dict of str to float
        Figures of the tower.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    tower.text_model.config.save_pretrained(folder)
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in tower.state_dict().items()
    }
    half = {name: value.cpu().contiguous() for name, value in half.items()}
    save_file(half, folder / "model.safetensors.partial", metadata={"format": "pt"})
    os.replace(folder / "model.safetensors.partial", folder / "model.safetensors")
    partial = folder / "metrics.json.partial"
    partial.write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
    os.replace(partial, folder / "metrics.json")
    return folder


def load_text_tower(
    folder: str | Path,
) -> tuple[
    ClapTextConfig, dict[str, int | str], dict[str, Tensor], PreTrainedTokenizerBase
]:
    """Load what `save_text_tower` wrote, to build a ClapModel from.

    Parameters
    ----------
    folder : str or Path
        Folder with config.json, model.safetensors and the tokenizer's files.

    Returns
    -------
    tuple
        The text configuration; projection_dim and projection_hidden_act as
        ClapConfig takes them; the state dict (text_model.*, text_projection.*,
        float32), to be loaded into a ClapModel with strict=False; the tokenizer.

    Raises
    ------
    ValueError
        If the folder lacks one of the files.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ValueError(
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
    return config, projection, state, AutoTokenizer.from_pretrained(folder)
