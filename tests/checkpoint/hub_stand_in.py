"""A small stand-in for the Hugging Face hub on this machine, for tests.

    with HubStandIn({"google/paligemma2-3b-pt-224": folder}) as endpoint:
        subprocess.run(command, env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache)})

`HF_ENDPOINT` is read when `huggingface_hub` is imported, hence the subprocess. The routes, headers and error
codes are the hub's own; `GOOD_TOKEN` opens gated models, any other token is one that was not accepted.
"""

import hashlib
import json
import threading
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

GOOD_TOKEN = "hf_good"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubStandIn:
    """Serves folders as models.

    Args:
        models: hub id to folder.
        gated: ids whose files need `GOOD_TOKEN`.
        forbidden: ids that answer 403 without saying why, as to a token with too few rights.
        broken: ids that answer 500.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        *,
        gated: Collection[str] = (),
        forbidden: Collection[str] = (),
        broken: Collection[str] = (),
    ) -> None:
        self.requests: list[str] = []
        owner = self

        class Handler(_Handler):
            stand_in = owner

        self.models, self.gated, self.forbidden, self.broken = models, gated, forbidden, broken
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    stand_in: HubStandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.stand_in.requests.append(f"{self.command} {path}")
        is_api = path.startswith("/api/models/")
        owner, name, *rest = path.removeprefix("/api/models/").strip("/").split("/")
        hub_id = f"{owner}/{name}"
        if hub_id in self.stand_in.broken:
            return self._fail(500, "", "Internal error")
        if hub_id in self.stand_in.forbidden:
            return self._fail(403, "", "Forbidden: the token lacks a permission")
        if hub_id not in self.stand_in.models:
            return self._fail(404 if self._token() else 401, "RepoNotFound", "Repository not found")
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in ("main", COMMIT):
            return self._fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if is_api:
            return self._describe(hub_id, is_tree=rest[:1] == ["tree"])
        if hub_id in self.stand_in.gated and self._token() != GOOD_TOKEN:
            message = "Your request to access model has not been accepted"
            return self._fail(403 if self._token() else 401, "GatedRepo", message)
        return self._file(self.stand_in.models[hub_id] / "/".join(rest[2:]))

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _describe(self, hub_id: str, *, is_tree: bool) -> None:
        files = [path for path in sorted(self.stand_in.models[hub_id].rglob("*")) if path.is_file()]
        names = [path.relative_to(self.stand_in.models[hub_id]).as_posix() for path in files]
        if is_tree:
            found = zip(files, names, strict=True)
            tree = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": _etag(path)}
                for path, name in found
            ]
            return self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        info = {
            "_id": "0",
            "id": hub_id,
            "modelId": hub_id,
            "sha": COMMIT,
            "private": False,
            "gated": "manual" if hub_id in self.stand_in.gated else False,
            "tags": [],
            "siblings": [{"rfilename": name} for name in names],
        }
        return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._fail(404, "EntryNotFound", "Entry not found")
        headers = {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "none"}
        return self._send(200, path.read_bytes(), headers)

    def _fail(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message}
        if code:
            headers["X-Error-Code"] = code
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
