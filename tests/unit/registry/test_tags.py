# SPDX-License-Identifier: Apache-2.0
"""Lists of tags."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlencode

import pytest

from podman_cvmfs.errors import RegistryError
from podman_cvmfs.names.reference import ImageName
from tests.support.http import Handler, Server, give
from tests.support.logins import new_client

pytestmark = pytest.mark.usefixtures("pauses", "nothing_secret_is_said")


def test_tags_in_pages(server: Server, name: ImageName) -> None:
    def page(handler: Handler) -> None:
        last = parse_qs(handler.path.partition("?")[2]).get("last", [""])[0]
        pages = {"": ["1", "2"], "2": ["2", "3", "no tag", 5], "3": None}
        link = {"": "2", "2": "3"}.get(last)
        headers = {"Link": f'</v2/elsewhere?last={link}&n=2>; rel="next"'} if link else {}
        handler.reply(200, json.dumps({"tags": pages[last]}).encode(), **headers)

    server.answers["/v2/group/app/tags/list"] = page
    with new_client() as client:
        assert client.tags(name) == ("1", "2", "3")
    assert len(server.requests) == 3


@pytest.mark.parametrize("key", ["next_page", "token", "last"])
@pytest.mark.parametrize("where", ["", "https://elsewhere.example.org"])
def test_pages_by_opaque_tokens(server: Server, name: ImageName, key: str, where: str) -> None:
    """quay.io says next_page=; others have words of their own. The host is the same, always."""
    token = "gAAAAABm+/=&#\u00e9 x"

    def page(handler: Handler) -> None:
        (said,) = parse_qs(handler.path.partition("?")[2]).get(key, [""])
        assert said in ("", token)
        link = f"{where}/v2/x/tags/list?n=2&{urlencode({key: token})}"
        headers = {} if said else {"Link": f'<{link}>; rel="next"'}
        tags = ["3"] if said else ["1", "2"]
        handler.reply(200, json.dumps({"tags": tags}).encode(), **headers)

    server.answers["/v2/group/app/tags/list"] = page
    with new_client() as client:
        assert client.tags(name) == ("1", "2", "3")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "link",
    [
        *(
            "",
            "<>",
            "/v2/x",
            "/v2/x?",
            "/v2/x?n=5",
            "/v2/x?last=",
            "https://[x?last=1",
            "x?" + "a" * 9,
        ),
        *("/v2/x?last=" + "a" * 5000, "/v2/x?" + "&".join(f"k{each}=v" for each in range(50))),
    ],
)
def test_links_that_lead_nowhere(server: Server, name: ImageName, link: str) -> None:
    server.answers["/v2/"] = give(b'{"tags": ["a"]}', Link=f'<{link}>; rel="next"')
    with new_client() as client:
        assert client.tags(name) == ("a",)
    assert len(server.requests) == 1


def test_tags_without_end(server: Server, name: ImageName) -> None:
    answer = json.dumps({"tags": ["a"]}).encode()
    server.answers["/v2/"] = give(answer, Link='</v2/x?last=a>; rel="next"')
    with new_client() as client:
        assert client.tags(name) == ("a",)
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [b"", b'{"tags": 5}', b'{"tags": {"a": 1}}'])
def test_what_is_no_list_of_tags(server: Server, name: ImageName, body: bytes) -> None:
    server.answers["/v2/"] = give(body)
    with new_client() as client, pytest.raises(RegistryError, match="tag list"):
        client.tags(name)
