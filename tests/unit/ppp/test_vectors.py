"""Authentication's arithmetic against published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ppp import mschapv2
from engine.ppp.authentication import chap_md5


@pytest.mark.parametrize(
    ("identifier", "secret", "challenge", "response"),
    [
        pytest.param(
            22,
            "arctangent",
            "2aee86f08d0d55969ca5978e0d3367a2",
            "e97557c316185895f293ff6344077275",
            id="RFC 2865 section 7.2",
        ),
        pytest.param(
            220,
            "hashcat",
            "35343534373533343633383832343736",
            "aa4aaa1d52319525023c06a4873f4c51",
            id="hashcat's self-test of mode 4800",
        ),
    ],
)
def test_chap_md5(identifier: int, secret: str, challenge: str, response: str) -> None:
    assert chap_md5(identifier, secret.encode(), bytes.fromhex(challenge)).hex() == response


def test_mschapv2_as_in_rfc2759_section_9_2() -> None:
    user, password = b"User", "clientPass"
    ours = bytes.fromhex("21402324255E262A28295F2B3A337C7E")
    theirs = bytes.fromhex("5B5D7C7D7B3F2F3E3C2C602132262628")
    response = mschapv2.nt_response(theirs, ours, user, mschapv2.nt_password_hash(password))
    assert mschapv2.challenge_hash(ours, theirs, user).hex().upper() == "D02E4386BCE91226"
    assert mschapv2.nt_password_hash(password).hex().upper() == "44EBBA8D5312B8D611474411F56989AE"
    assert response.hex().upper() == "82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"
    proof = mschapv2.authenticator_response(mschapv2.nt_password_hash(password), response, ours, theirs, user)
    assert proof == "S=407A5589115FD0D6209F510FE9C04566932CDA56"
    assert mschapv2.success_is_genuine(proof.encode() + b" M=welcome", proof)


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
