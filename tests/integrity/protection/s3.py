"""An S3 server on the loopback, behind a proxy that makes buckets go down, hang, lie or run full."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

__all__ = ["Proxy", "moto_server"]
_FULL = b"<Error><Code>InsufficientStorage</Code><Message>The bucket is full</Message></Error>"


def moto_server(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """`moto_server` of an environment of its own (botocore holds back packages that ours need newer), and its port."""
    uv, side = Path(sys.executable).with_name("uv"), folder / "environment"
    for words in (
        ["venv", "-q", "--python", sys.executable, side],
        ["pip", "install", "-q", "--python", side, "moto[server]==5.2.*"],
    ):
        made = subprocess.run([uv, *words], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no environment for moto (is there a package index?): {made.stderr.strip()[-200:]}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        words = [side / "bin" / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(words, stdout=log, stderr=log)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise RuntimeError((folder / "log").read_text())


class Proxy(ThreadingHTTPServer):
    """Passes requests on; `behaviour` says for a bucket: down, slow, lies or full."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.upstream = port
        self.behaviour: dict[str, str] = {}
        self.written = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bucket, _, key = self.path.lstrip("/").partition("?")[0].partition("/")
        behaviour = self.server.behaviour.get(bucket)
        if behaviour == "down":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if behaviour == "slow":
            time.sleep(8)
        if behaviour == "full" and self.command in ("PUT", "POST"):
            self._answer(507, [("Content-Type", "application/xml")], _FULL)
            return
        self.server.written += self.command == "PUT"
        other = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        other.request(self.command, self.path, content, dict(self.headers))
        answer = other.getresponse()
        body = answer.read()
        if behaviour == "lies" and self.command == "GET" and key.endswith(".shard"):
            body = body[:-5] + bytes([body[-5] ^ 1]) + body[-4:]
        self._answer(answer.status, answer.getheaders(), body)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Quiet."""
