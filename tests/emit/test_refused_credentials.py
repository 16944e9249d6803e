"""Both functions and a credential that is refused: what is tried again, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from support.emit_server import STORED, Server, answer
from support.emit_ways import WAYS, Way

from oneshotd.emit import EmitDenied, EmitRefused, EmitUnavailable

#: Seconds in which a test would notice a useless retry: the server is asked again.
RETRY = 10


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest) -> Way:
    send: Way = request.param
    return send


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("s3cret-token\n")
    return file


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest_twisted.ensureDeferred
async def test_a_redirect_is_not_followed(way: Way, token: Path, status: int) -> None:
    """The token would be told to whatever host an answer names."""
    refused = pytest.raises(EmitRefused, match=rf"refused \({status}\)")
    with Server() as other, Server(answer(status, b"", Location=f"{other.url}/event")) as server, refused:
        await way(url=server.url, token_file=token, retry=RETRY)
    assert len(server.asked) == 1
    assert other.asked == []


@pytest.mark.parametrize("status", [401, 403])
@pytest_twisted.ensureDeferred
async def test_a_refused_token_is_named_and_not_tried_again(way: Way, token: Path, status: int) -> None:
    """A wrong token would be tried until the daemon bars the address; or be printed into a log."""
    with Server(answer(status, b"no s3cret-token here\n")) as server:
        with pytest.raises(EmitDenied) as caught:
            await way(url=server.url, token_file=token, retry=RETRY)
        assert caught.value.status == status
        assert str(caught.value) == (
            f"refused ({status}): no [hidden] here; sent with the token of {token} (token-file)"
        )
        with pytest.raises(
            EmitDenied, match="sent without a credential, see the options token-file and cert"
        ):
            await way(url=server.url, retry=RETRY)
        with pytest.raises(EmitDenied, match="sent with the user 'kim' of the url") as caught:
            await way(url=server.url.replace("//", "//kim:s3cret-token@"), retry=RETRY)
        assert "s3cret" not in str(caught.value)
    assert len(server.asked) == 3


@pytest_twisted.ensureDeferred
async def test_too_many_requests_are_tried_again(way: Way, token: Path) -> None:
    """An emitter that is over its rate for a second would lose its events."""
    with Server(answer(429, b"slowly\n", Retry_After="0"), STORED) as server:
        await way(url=server.url, token_file=token, retry=30)
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer s3cret-token"] * 2


@pytest_twisted.ensureDeferred
async def test_a_password_of_the_url_is_in_no_error(way: Way) -> None:
    """It would stand in a log."""
    for url in ("https://kim:s3cret@127.0.0.1:1", "http://kim:s3cret@127.0.0.1:1"):
        with pytest.raises(EmitUnavailable) as caught:
            await way(url=url)
        assert "s3cret" not in repr(caught.value)
