"""Authentication's arithmetic against published values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ppp import mschapv2
from engine.ppp.authentication import chap_md5

from ..shared import shared


def vectors(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(shared("captures", "auth-vectors.json").read_text())[kind]
    return found


def test_chap_md5() -> None:
    for vector in vectors("chap_md5"):
        response = chap_md5(vector["id"], vector["secret"].encode(), bytes.fromhex(vector["challenge"]))
        assert response.hex() == vector["response"], vector["src"]


def test_mschapv2() -> None:
    for vector in vectors("mschapv2"):
        user, password = vector["user"].encode(), vector["password"]
        ours = bytes.fromhex(vector["peer_challenge"])
        theirs = bytes.fromhex(vector["authenticator_challenge"])
        response = mschapv2.nt_response(theirs, ours, user, password)
        assert mschapv2.challenge_hash(ours, theirs, user).hex().upper() == vector["challenge"]
        assert mschapv2.nt_password_hash(password).hex().upper() == vector["password_hash"]
        assert response.hex().upper() == vector["nt_response"]
        proof = mschapv2.authenticator_response(password, response, ours, theirs, user)
        assert proof == vector["authenticator_response"]
        assert mschapv2.success_is_genuine(proof.encode() + b" M=welcome", proof)


def test_rfc2759_section_9_2_by_heart() -> None:
    """The same vector written out here, so that the test runs without any other file."""
    response = mschapv2.nt_response(
        bytes.fromhex("5B5D7C7D7B3F2F3E3C2C602132262628"),
        bytes.fromhex("21402324255E262A28295F2B3A337C7E"),
        b"User",
        "clientPass",
    )
    assert response.hex().upper() == "82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"


def test_the_domain_is_left_out() -> None:
    assert mschapv2.without_domain(b"BIGCO\\johndoe") == b"johndoe"
    assert mschapv2.without_domain(b"johndoe") == b"johndoe"


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (
            b"E=691 R=1 C=00112233 V=3 M=go away now",
            {"E": "691", "R": "1", "C": "00112233", "V": "3", "M": "go away now"},
        ),
        (b"E=691 R=0", {"E": "691", "R": "0"}),
        (b"M=R=1 E=2", {"M": "R=1 E=2"}),
        (b"", {}),
        (b"what?", {}),
    ],
)
def test_failure_fields(message: bytes, fields: dict[str, str]) -> None:
    assert mschapv2.parse_failure(message) == fields


@given(st.binary(max_size=300))
def test_any_failure_message_is_taken(message: bytes) -> None:
    assert all(isinstance(value, str) for value in mschapv2.parse_failure(message).values())
    assert not mschapv2.success_is_genuine(message, "S=" + "0" * 40) or message[:42].upper() == b"S=" + b"0" * 40
