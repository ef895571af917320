"""The web page of the service: failed and held studies, summaries of held results, and buttons for the studies.

The server listens only on 127.0.0.1; a random part of the address keeps out other users of the machine and other sites.
"""

import base64
import hashlib
import io
import re
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pydicom
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from common.errors import InputError, show
from deploy.mark import STATES, Mark

ACTIONS = {  # by state; a held study shows its buttons only beside the summary
    "failed": ["retry"],
    "given_up": ["retry", "discard"],
    "held": ["release", "discard", "retry"],
    "running": [],
}
IDENTITY = ("PatientID", "StudyDate", "AccessionNumber")  # to find the study in the PACS
LONGEST = 1000  # maximum bytes of a form
STYLE = (
    "body{font:16px/1.5 sans-serif;margin:2rem;color-scheme:light dark}img{max-width:100%}"
    "table{border-collapse:collapse}th,td{border:1px solid gray;padding:.3rem .6rem;text-align:left}"
    "dt{float:left;clear:left;width:10rem}[role=status]{border:2px solid #d99a1c;padding:.5rem}"
)
DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; img-src 'self'; style-src 'sha256-{DIGEST}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Page(HTTPServer):
    """HTTP server of the page.

    `look` returns the marks of all studies, `results` returns the held results of a study by file name, and each of
    `actions` changes the state of a study and returns a message.
    """

    def __init__(
        self,
        port: int,
        look: Callable[[], Sequence[Mark]],
        results: Callable[[str], Mapping[str, bytes]],
        actions: Mapping[str, Callable[[str], str]],
    ) -> None:
        self.look, self.results, self.actions = look, results, actions
        self.token, self.message = secrets.token_urlsafe(16), ""
        self.template = Environment(
            loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
        ).get_template("page.html.j2")
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, *_: object) -> None:
        """Report only the type of an unexpected error, because its message could name the patient."""
        show(f"error: {type(sys.exception()).__name__} (message withheld)", error=True)

    @property
    def address(self) -> str:
        """URL of the page, token included."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def summary(self, study: str) -> pydicom.Dataset:
        """Return the summary picture of a study's held results."""
        return pydicom.dcmread(io.BytesIO(self.results(study)["summary.dcm"]))

    def render(self, study: str = "") -> str:
        """Return the HTML of the overview, or of a held study's page."""
        marks, message, self.message = self.look(), self.message, ""
        states = Counter(mark.state for mark in marks)
        counts = {} if study else {state.replace("_", " "): states[state] for state in STATES}
        summary = self.summary(study) if study else pydicom.Dataset()
        identity = {name: summary.get(name, "") for name in IDENTITY}
        listed = [mark for mark in marks if (mark.pseudonym == study if study else mark.reason)]
        content = {"study": study, "counts": counts, "marks": listed, "identity": identity, "message": message}
        return self.template.render(style=STYLE, actions=ACTIONS, **content)


class _Handler(BaseHTTPRequestHandler):
    server: Page
    timeout = 2  # seconds to receive a request; the server has one thread, and browsers open idle connections

    def do_GET(self) -> None:
        if (name := self._name()) is None:
            self._answer(404)
        elif name.endswith(".png"):
            self._guarded(lambda: self._answer(200, "image/png", self._picture(name.removesuffix(".png"))))
        else:
            self._guarded(lambda: self._answer(200, "text/html; charset=utf-8", self.server.render(name).encode()))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self._name() != "" or self.headers.get("Origin") != f"http://{self.headers['Host']}":
            self._answer(404)
        elif not length.isdecimal() or int(length) > LONGEST:
            self._answer(400)
        else:
            form = parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
            self._guarded(lambda: self._settle(form.get("action", [""])[0], form.get("study", [""])[0]))

    def _name(self) -> str | None:
        """Return the path below the page's address; None for a request to a different address."""
        path, start = self.path.partition("?")[0].encode(), f"/{self.server.token}/".encode()
        is_here = re.fullmatch(r"(127\.0\.0\.1|localhost)(:\d+)?", self.headers.get("Host", ""))  # no DNS rebinding
        return path[len(start) :].decode() if is_here and secrets.compare_digest(path[: len(start)], start) else None

    def _picture(self, study: str) -> bytes:
        content = io.BytesIO()
        Image.fromarray(self.server.summary(study).pixel_array).save(content, "PNG")
        return content.getvalue()

    def _settle(self, action: str, study: str) -> None:
        state = next((mark.state for mark in self.server.look() if mark.pseudonym == study), "")
        if action not in ACTIONS.get(state, []):
            self.server.message = f"study {study}: {state.replace('_', ' ') or 'no longer there'}; nothing was changed"
        else:
            self.server.message = self.server.actions[action](study)
        self._answer(303)

    def _guarded(self, answer: Callable[[], None]) -> None:
        """Call `answer`; if it raises an InputError, send the message with status 503."""
        try:
            answer()
        except InputError as error:
            self._answer(503, "text/plain; charset=utf-8", f"{error}\n".encode())

    def _answer(self, status: int, kind: str = "text/plain", content: bytes = b"") -> None:
        self.connection.settimeout(60)  # seconds to send the answer
        self.send_response(status)
        for name, value in (HEADERS | {"Content-Type": kind, "Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        if status == 303:
            self.send_header("Location", self.path)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing, because addresses contain the token."""
