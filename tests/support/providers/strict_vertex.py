"""Google Vertex AI on loopback: Claude and Gemini behind its URLs, with its authentication.

litellm gets a token by workload identity federation: it sends the subject token of a file to a token service, which is this
server (google-auth, identity_pool.py; docs.litellm.ai, providers/vertex). The rules on what a request contains are those of
`strict_anthropic` and `strict_gemini`, and these:

| rule | holds for | source |
|---|---|---|
| token | all | cloud.google.com, Vertex AI authentication |
| vertex-version | all | anthropic-sdk-python, lib/vertex/_client.py; clawvisor/clawvisor#156 |
| model-in-body | all | api7/aisix#443; anthropic-sdk-python, lib/vertex/_client.py |
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.providers import strict_anthropic, strict_gemini
from tests.support.providers.anthropic_subject import Subject
from tests.support.providers.strict_anthropic import StrictAnthropic
from tests.support.providers.strict_gemini import StrictGemini
from tests.support.providers.strict_server import Failure, Json, ProviderRequest, Reply, Response, RuleBook

BOOK = RuleBook()
rule = BOOK.rule

PROJECT, LOCATION, TOKEN, SUBJECT_TOKEN = "my-project", "us-east5", "ya29.loopback", "subject-token"
SDK = "anthropic-sdk-python, lib/vertex/_client.py"


@rule("token", "cloud.google.com, Vertex AI authentication", status=401)
def _token(subject: Any) -> Iterator[str]:
    if subject.request.headers.get("authorization") != f"Bearer {TOKEN}":
        yield "Request had invalid authentication credentials. Expected OAuth 2 access token."


@rule("vertex-version", f"{SDK}; clawvisor/clawvisor#156")
def _vertex_version(subject: Any) -> Iterator[str]:
    if subject.server.sent_body.get("anthropic_version") != "vertex-2023-10-16":
        yield "anthropic_version: Input should be 'vertex-2023-10-16'"


@rule("model-in-body", f"api7/aisix#443; {SDK}")
def _model_in_body(subject: Any) -> Iterator[str]:
    if "model" in subject.server.sent_body:
        yield "model: Extra inputs are not permitted"


class _VertexAccess:
    """The token service and the arguments of calls, for the servers of both makers."""

    url: str

    def __init__(self, *script: Reply | Failure, **options: Any) -> None:
        self.sent_body: Json = {}
        self._directory = tempfile.TemporaryDirectory()
        self._subject_file = Path(self._directory.name, "subject-token")
        self._subject_file.write_text(SUBJECT_TOKEN)
        super().__init__(*script, **options)

    @property
    def options(self) -> Json:
        """Arguments of a litellm call that lead here."""
        pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/loopback"
        credentials = {
            "type": "external_account",
            "audience": pool,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/token",
            "credential_source": {"file": str(self._subject_file)},
        }
        place = {"vertex_project": PROJECT, "vertex_location": LOCATION, "vertex_credentials": credentials}
        return {"api_base": self.url, "num_retries": 0, "max_retries": 0, **place}

    def issue_token(self, request: ProviderRequest) -> Response | None:
        """Answer a request to the token service (RFC 8693). None for other requests."""
        if request.path != "/token":
            return None
        if f"subject_token={SUBJECT_TOKEN}".encode() not in request.raw:
            return Response(400, {"error": "invalid_grant"})
        kind = "urn:ietf:params:oauth:token-type:access_token"
        issued = {"access_token": TOKEN, "issued_token_type": kind, "token_type": "Bearer", "expires_in": 3600}
        return Response(200, issued)

    def close(self) -> None:
        super().close()  # type: ignore[misc]  # a server is the second base
        self._directory.cleanup()


def _path(maker: str, methods: str) -> str:
    return rf"/v1(beta1)?/projects/{PROJECT}/locations/{LOCATION}/publishers/{maker}/models/([^/:]+):({methods})(\?alt=sse)?"


class StrictVertexAnthropic(_VertexAccess, StrictAnthropic):
    """Claude: POST …/publishers/anthropic/models/<model>:rawPredict and :streamRawPredict."""

    book = RuleBook([*BOOK.rules, *strict_anthropic.BOOK.rules])
    flavour = "vertex-anthropic"

    def model(self, name: str = "claude-sonnet-4-5") -> str:
        return f"vertex_ai/{name}"

    def side_request(self, request: ProviderRequest) -> Response | None:
        """Answer the token service; refuse any path but the two of the Messages API."""
        if (token := self.issue_token(request)) is not None:
            return token
        self.sent_body = request.body
        if re.fullmatch(_path("anthropic", "rawPredict|streamRawPredict"), request.path):
            return None
        return Response(404, self.error(Failure(404, f"no such path: {request.path}")))

    def _named(self, request: ProviderRequest) -> ProviderRequest:
        """Return the request as the Messages API gets it: with the model of the path."""
        if "anthropic_version" not in request.body:
            return request
        body = {name: value for name, value in request.body.items() if name != "anthropic_version"}
        match = re.search(r"/models/([^/:]+):", request.path)
        return replace(request, body={"model": match[1] if match else "", **body})

    def inspect(self, request: ProviderRequest) -> Subject:
        return super().inspect(self._named(request))

    def account(self, request: ProviderRequest, reply: Reply) -> Json:
        return super().account(self._named(request), reply)

    def is_stream(self, request: ProviderRequest) -> bool:
        return ":streamRawPredict" in request.path


class StrictVertexGemini(_VertexAccess, StrictGemini):
    """Gemini: POST …/publishers/google/models/<model>:generateContent and :streamGenerateContent."""

    book = RuleBook([BOOK.rules[0], *strict_gemini.BOOK.rules])
    flavour = "vertex-gemini"

    def model(self, name: str = "gemini-3-pro-preview") -> str:
        return f"vertex_ai/{name}"

    def side_request(self, request: ProviderRequest) -> Response | None:
        """Answer the token service; refuse any path but the two that generate content."""
        if (token := self.issue_token(request)) is not None:
            return token
        if re.fullmatch(_path("google", "generateContent|streamGenerateContent"), request.path):
            return None
        return Response(404, self.error(Failure(404, f"no such method: {request.path}")))
