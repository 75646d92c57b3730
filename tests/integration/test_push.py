"""`lmaczs push` and what is loaded of it, by the real client and a Hub on loopback.

`HubStandIn` answers the calls that the client makes to push and to fetch; large files
go by Git LFS's protocol, which the Hub speaks, too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from lmaczs import default_source

ROOT = Path(__file__).parents[2]

REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
LARGE = 10_000  # bytes; larger files are uploaded apart, as by Git LFS

Tree = dict[str, bytes]


class HubStandIn:
    """Repositories with their commits, oldest first, and the tokens that came."""

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, Tree]]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT names."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> HubStandIn:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def commit(self, repo: str, tree: Tree) -> str:
        """Add a commit with these files, and return its id."""
        named = json.dumps([repo, len(self.commits[repo]), sorted(tree)]).encode()
        sha = hashlib.sha1(named).hexdigest()
        self.commits[repo].append((sha, tree))
        return sha

    def at(self, repo: str, revision: str) -> tuple[str, Tree] | None:
        """Commit and files of a revision, or None."""
        commits = self.commits.get(repo, [])
        if revision == "main" and commits:
            return commits[-1]
        return next((one for one in commits if one[0] == revision), None)


def _handler_of(hub: HubStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def reply(
            self, body: Any, status: int = 200, headers: dict[str, str] | None = None
        ) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def missing(self, code: str) -> None:
            self.reply({"error": code}, 404, {"X-Error-Code": code})

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if found := re.fullmatch(
                f"/api/models/{REPO}(/(?P<kind>revision|tree)/(?P<at>[^/]+))?/?", path
            ):
                self.get_tree(found["repo"], found["at"] or "main", found["kind"])
            elif found := re.fullmatch(f"/{REPO}/resolve/([^/]+)/(.+)", path):
                self.get_file(found["repo"], found[2], found[3])
            else:
                self.missing("EntryNotFound")

        do_HEAD = do_GET

        def get_tree(self, repo: str, at: str, kind: str | None) -> None:
            if repo not in hub.commits:
                return self.missing("RepoNotFound")
            if (one := hub.at(repo, at)) is None:
                return self.missing("RevisionNotFound")
            sha, tree = one
            if kind == "tree":
                return self.reply(
                    [
                        {"type": "file", "path": p, "size": len(d), "oid": _oid(d)}
                        for p, d in tree.items()
                    ]
                )
            files = [{"rfilename": path} for path in tree]
            return self.reply({"id": repo, "sha": sha, "siblings": files})

        def get_file(self, repo: str, at: str, path: str) -> None:
            one = hub.at(repo, at)
            if one is None or path not in one[1]:
                return self.missing("EntryNotFound" if one else "RevisionNotFound")
            data = one[1][path]
            headers = {"X-Repo-Commit": one[0], "ETag": f'"{_oid(data)}"'}
            return self.reply(data, headers=headers)

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            body = self.body()
            hub.tokens.add(self.headers.get("Authorization"))
            if path == "/api/validate-yaml":
                self.reply({"errors": [], "warnings": []})
            elif path == "/api/repos/create":
                self.create(json.loads(body))
            elif re.fullmatch(f"/api/models/{REPO}/preupload/main", path):
                self.reply({"files": [_upload(f) for f in json.loads(body)["files"]]})
            elif re.fullmatch(f"/{REPO}.git/info/lfs/objects/batch", path):
                objects = json.loads(body)["objects"]
                for one in objects:
                    href = f"{hub.endpoint}/large/{one['oid']}"
                    one["actions"] = {"upload": {"href": href}}
                self.reply({"transfer": "basic", "objects": objects})
            elif found := re.fullmatch(f"/api/models/{REPO}/commit/main", path):
                self.add_commit(found["repo"], body)
            else:
                self.missing("EntryNotFound")

        def do_PUT(self) -> None:
            hub.large[self.path.rpartition("/")[2]] = self.body()
            self.reply({})

        def create(self, asked: dict[str, Any]) -> None:
            repo = f"{asked['organization']}/{asked['name']}"
            known = repo in hub.commits
            if not known:
                hub.commits[repo] = []
                hub.private[repo] = bool(
                    asked.get("private") or asked.get("visibility") == "private"
                )
                hub.commit(repo, {".gitattributes": b"*.ckpt filter=lfs\n"})
            self.reply({"url": f"{hub.endpoint}/{repo}"}, 409 if known else 200)

        def add_commit(self, repo: str, body: bytes) -> None:
            tree = dict(hub.commits[repo][-1][1])
            for line in body.splitlines():
                kind, value = (one := json.loads(line))["key"], one["value"]
                if kind == "file":
                    tree[value["path"]] = base64.b64decode(value["content"])
                elif kind == "lfsFile":
                    tree[value["path"]] = hub.large[value["oid"]]
                elif kind == "deletedFile":
                    del tree[value["path"]]
            sha = hub.commit(repo, tree)
            url = f"{hub.endpoint}/{repo}/commit/{sha}"
            self.reply({"success": True, "commitOid": sha, "commitUrl": url})

    return Handler


def _upload(file: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if file["size"] > LARGE else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


def _oid(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


LOAD = """
import sys
from lmaczs import ZeroShotInterpreter
for revision in sys.argv[1:]:
    try:
        one = ZeroShotInterpreter.from_hparams("me/dogs", revision=revision or None)
    except FileNotFoundError as error:
        sys.exit(str(error))
    print(sum(float(p.sum()) for p in one.mods.decoder.parameters()))
"""
CARD = """\
---
library_name: lmaczs
model-index:
- name: dogs
  results:
  - task:
      type: audio-classification
    dataset:
      name: mine
      type: mine
      split: test
    metrics:
    - type: AI
      value: 81.25
---

    interpreter = ZeroShotInterpreter.from_hparams(source="<this folder>")
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The embedded decoder with a copy of its CLAP, as `lmaczs export` writes it."""
    folder = tmp_path / "exported"
    shutil.copytree(default_source(), folder)
    shutil.copytree(default_source().parent / "clap_small", folder / "clap")
    for path in (folder / "hyperparams.yaml", folder / "interpreter.json"):
        path.write_text(path.read_text().replace("../clap_small", "clap"))
    (folder / "README.md").write_text(CARD)
    (folder / "run.json").write_text("{}")
    (folder / "clap" / ".DS_Store").touch()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run Python with a cache of its own and, as endpoint, a stand-in or none."""

    def start(hub: HubStandIn | None, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": "hf_secret",
            "HF_HUB_DISABLE_XET": "1",  # a protocol of its own; this is Git LFS's
            "HF_HUB_OFFLINE": "0" if hub else "1",
            "HF_ENDPOINT": hub.endpoint if hub else "http://127.0.0.1:9",
        }
        line = [sys.executable, *words]
        return subprocess.run(
            line, env=environment, capture_output=True, text=True, timeout=300
        )

    return start


def push(run: Run, hub: HubStandIn, folder: Path, *options: str) -> str:
    """Push, and return the commit that the command names."""
    command = ["-m", "lmaczs.cli", "push", str(folder), "me/dogs", *options]
    done = run(hub, *command)
    assert done.returncode == 0, done.stderr
    assert "1 metrics on its card" in done.stdout
    found = re.search(r'from_hparams\("me/dogs", revision="(\w+)"\)', done.stdout)
    assert found
    return found[1]


def change(folder: Path) -> None:
    """Another decoder: all weights are doubled."""
    path = folder / "decoder.safetensors"
    weights = load_file(path)
    doubled = {k: 2 * w if w.is_floating_point() else w for k, w in weights.items()}
    save_file(doubled, path)


@pytest.mark.slow
def test_what_is_pushed_is_loaded_and_a_revision_stays(
    run: Run, exported: Path, tmp_path: Path
) -> None:
    """The latest by name, an earlier one by its commit, a cached one offline."""
    with HubStandIn() as hub:
        first = push(run, hub, exported, "--private")
        one = float(run(hub, "-c", LOAD, "").stdout)
        change(exported)
        second = push(run, hub, exported)
        found = run(hub, "-c", LOAD, "", first, "0" * 40)
        latest, pinned = map(float, found.stdout.split())
        assert hub.private["me/dogs"] and hub.tokens == {"Bearer hf_secret"}
        tree = hub.commits["me/dogs"][1][1]
    assert [commit for commit, _ in hub.commits["me/dogs"]][1:] == [first, second]
    assert pinned == one and latest == pytest.approx(2 * one) and one != 0
    assert found.returncode == 1 and "me/dogs" in found.stderr
    assert "revision 0000" in found.stderr.splitlines()[-1]
    offline = run(None, "-c", LOAD, first, second).stdout.split()
    assert list(map(float, offline)) == [one, latest]
    names = {p.relative_to(exported).as_posix() for p in exported.rglob("*.*")}
    hidden = {"run.json", "clap/.DS_Store"}
    assert set(tree) == names - hidden | {".gitattributes"}
    card = ModelCard(tree["README.md"].decode())
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("AI", 81.25)
    assert 'from_hparams(source="me/dogs")' in card.text


@pytest.mark.slow
def test_a_repository_of_something_else_is_left_alone(run: Run, exported: Path) -> None:
    """One line, nothing written; with --force the files beside it stay."""
    with HubStandIn() as hub:
        hub.commits["me/dogs"] = []
        hub.commit("me/dogs", {"novel.txt": b"It was", "clap/old.bin": b"1"})
        done = run(hub, "-m", "lmaczs.cli", "push", str(exported), "me/dogs")
        assert done.returncode == 1 and len(hub.commits["me/dogs"]) == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("lmaczs: me/dogs: it holds something else")
        push(run, hub, exported, "--force")
        tree = hub.commits["me/dogs"][-1][1]
    assert tree["novel.txt"] == b"It was" and "decoder.safetensors" in tree
    assert "clap/old.bin" not in tree  # of an earlier CLAP


@pytest.mark.slow
def test_a_hub_that_is_not_there_is_one_line(run: Run, exported: Path) -> None:
    """Offline, the command says what to check."""
    done = run(None, "-m", "lmaczs.cli", "push", str(exported), "me/dogs")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("lmaczs: me/dogs: not pushed") and "log in" in line
