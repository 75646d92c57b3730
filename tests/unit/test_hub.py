"""Where a model lies: folders first, then what can be a Hub id, without a network."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from lmaczs.hub import (
    clap_folder,
    decoder_folder,
    default_source,
    local_folder,
    patiently,
    resolve,
    snapshot,
)
from lmaczs.utils.errors import InputError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with clap/, owner/name/ and, below here/, another clap/."""
    monkeypatch.chdir(tmp_path)
    for name in ("clap", "owner/name", "here/clap"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a_file").touch()
    return tmp_path


def test_a_folder_is_looked_up_beside_what_names_it(here: Path) -> None:
    """`relative_to` first, the working directory next."""
    assert local_folder("clap", "here") == Path("here/clap")
    assert local_folder("clap") == Path("clap")
    assert local_folder("owner/name", "here") == Path("owner/name")
    assert local_folder(here / "clap", "here") == here / "clap"


def test_shipped_models_are_found_from_anywhere(here: Path) -> None:
    """As the YAMLs name them, unless there is a folder of that name."""
    shipped = default_source().parent / "clap_small"
    assert local_folder("pretrained/clap_small") == shipped
    assert resolve("pretrained/clap_small") == str(shipped.resolve())
    assert local_folder("pretrained/other") is None
    (here / "pretrained" / "clap_small").mkdir(parents=True)
    assert local_folder("pretrained/clap_small") == Path("pretrained/clap_small")


def test_what_has_an_owner_may_be_on_the_hub(here: Path) -> None:
    """Only where there is no such folder: a folder comes first."""
    assert local_folder("laion/clap-htsat-fused") is None
    assert local_folder("owner/name") == Path("owner/name")


@pytest.mark.parametrize(
    "source",
    [Path("gone/away"), "./gone", "../a", "/gone/away", "gone", "a/b/c", "~/x"],
)
def test_what_cannot_be_a_hub_id_is_a_missing_folder(
    source: str | Path, here: Path
) -> None:
    """It is named; a path object is never a Hub id."""
    with pytest.raises(FileNotFoundError, match=f"there is no folder {source}"):
        local_folder(source)


def test_a_name_that_no_file_can_have_is_a_missing_folder(here: Path) -> None:
    """Too long for the system, or with a NUL."""
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        local_folder("a" * 5000)
    assert local_folder("a" * 5000 + "/b") is local_folder("a\0/b") is None


def test_a_file_is_no_folder(here: Path) -> None:
    """A model is a folder."""
    with pytest.raises(FileNotFoundError, match="there is no folder a_file"):
        local_folder("a_file")


def test_resolved_names_do_not_depend_on_the_working_directory(here: Path) -> None:
    """Folders become absolute, Hub ids stay as they are."""
    assert resolve("clap", "here") == str(here / "here" / "clap")
    assert resolve("here/../clap") == str(here / "clap")
    assert resolve("laion/clap-htsat-fused", "here") == "laion/clap-htsat-fused"


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no body/?"])
def test_a_repository_that_cannot_be_had_is_one_line(name: str) -> None:
    """Without a network, or with a name that no repository can have."""
    with pytest.raises(FileNotFoundError) as caught:
        snapshot(name)
    assert str(caught.value).startswith(f"there is no folder {name}, and the Hub ")
    assert "\n" not in str(caught.value)


def test_a_revision_that_cannot_be_had_is_named() -> None:
    """A mistyped commit is not taken for a missing repository."""
    with pytest.raises(FileNotFoundError, match=r"at revision 1234567 \("):
        snapshot("nobody/no-such-model", revision="1234567")


def test_folders_of_models_are_used_in_place(here: Path) -> None:
    """Nothing is downloaded for them, and they have no revision."""
    assert clap_folder("clap") == Path("clap") == decoder_folder("clap")
    with pytest.raises(InputError, match="only a repository of the Hub"):
        decoder_folder("clap", revision="1234567")
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set"):
        clap_folder("nobody/no-such-clap")


def test_the_embedded_default_is_there_with_its_clap() -> None:
    """The decoder, and beside it the CLAP that its YAML names."""
    folder = default_source()
    assert (folder / "hyperparams.yaml").is_file()
    assert (folder.parent / "clap_small" / "config.json").is_file()


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Hub that accepts connections and never answers, given up after a second."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        place = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", place)
        monkeypatch.setenv("LMACZS_HUB_TIMEOUT", "1")
        yield


@pytest.mark.slow
def test_a_hub_that_never_answers_is_given_up(silent_hub: None) -> None:
    """In one sentence, which names the way to wait longer."""
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match=r"nothing for \d+ s .LMACZS_HUB_TIM"):
        snapshot("nobody/no-such-model")
    assert time.monotonic() - start < 60


@pytest.mark.slow
def test_a_hub_that_never_answers_is_waited_for_once(
    silent_hub: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A decoder and its CLAP that were downloaded before are used, each with a line."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("decoder", "clap"):
        repository = tmp_path / f"models--me--{name}"
        commit = repository / "snapshots" / ("a" * 40)
        commit.mkdir(parents=True)
        (commit / "config.json").write_text("{}")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit.name)
    asked = []
    monkeypatch.setattr(
        HfApi, "model_info", lambda *_, **__: (asked.append(1), time.sleep(60))
    )
    for _ in range(3):
        assert snapshot("me/decoder").name == snapshot("me/clap").name == "a" * 40
    assert len(asked) <= 1
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"me/{name}: no answer of the Hub; a copy is used"
        for name in ("decoder", "clap")
    ]


def test_a_client_that_gives_up_first_says_the_same(silent_hub: None) -> None:
    """Whichever of the two clocks is ahead, and the Hub is not asked again."""

    def ask() -> None:
        try:
            raise TimeoutError("timed out")
        except TimeoutError as error:
            raise ValueError("an error of the client") from error

    asked: list[int] = []
    with pytest.raises(TimeoutError, match=r"nothing for \d+ s .LMACZS_HUB_TI"):
        patiently(ask)
    with pytest.raises(TimeoutError, match=r"nothing for 1 s .LMACZS_HUB_TIMEOUT"):
        patiently(lambda: asked.append(1))
    assert not asked


@pytest.mark.slow
def test_an_answer_that_arrives_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as something is written, however slowly."""
    monkeypatch.setenv("LMACZS_HUB_TIMEOUT", "5")

    def slow() -> int:
        for number in range(30):  # longer than the patience in all
            time.sleep(0.2)
            (tmp_path / str(number)).write_text("more")
        return 7

    assert patiently(slow, [tmp_path]) == 7


def test_an_error_is_that_of_the_hub() -> None:
    """And not one of waiting."""
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 // 0)
