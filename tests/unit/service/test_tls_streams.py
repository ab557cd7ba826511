"""TLS 1.3 with SM suites and with ordinary ones: what goes through is not readable on the wire."""

import socket
import threading
from contextlib import suppress

import pytest
from Crypto.Util.asn1 import DerBitString, DerSequence

from sandbox.crypto.providers import sm2
from sandbox.errors import AuthenticationError, InputError, UnavailableError
from sandbox.model.keys import SuiteName
from sandbox.service.certificate import certificate_der, make_identity
from sandbox.service.tls import TlsServer, client_context, connect, server_context

pytest.importorskip("OpenSSL", reason="pyOpenSSL is in the extra `tls`")

TIMES = {"not_before": "2020-01-01T00:00:00Z", "not_after": "2099-01-01T00:00:00Z"}
MARKER = b"a marker that must not be seen on the wire"
EXPECTED = {
    SuiteName.GM: ("TLS_SM4_GCM_SM3", "curveSM2"),
    SuiteName.INTL: ("TLS_AES_256_GCM_SHA384", "X25519MLKEM768"),
}


@pytest.fixture(scope="module", params=list(SuiteName), ids=str)
def identity(request):
    return make_identity("vault.example", request.param, **TIMES)


def echo(stream):
    while data := stream.receive():
        stream.send(data)


class Tap:
    """A relay that keeps every byte of both directions."""

    def __init__(self, target):
        self.seen = bytearray()
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        near, _ = self._listener.accept()
        with near, socket.create_connection(self._target) as far:
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join(5)

    def _pump(self, source, sink):
        with suppress(OSError):
            while data := source.recv(65_536):
                self.seen += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        self._thread.join(10)
        self._listener.close()


def test_a_marker_goes_through_and_is_not_on_the_wire(identity):
    with TlsServer(server_context(identity), echo) as server:
        tap = Tap(server.address)
        with connect(tap.address, client_context(identity.suite, identity.certificate)) as stream:
            received = b""
            stream.send(MARKER * 1000)
            while len(received) < len(MARKER) * 1000:
                received += stream.receive()
            assert (stream.cipher, stream.group) == EXPECTED[identity.suite]
            assert stream.version == "TLSv1.3"
        tap.close()
    assert received == MARKER * 1000
    assert len(tap.seen) > 2 * len(received)
    assert MARKER not in tap.seen
    assert MARKER[:12] not in tap.seen


def test_the_tap_does_see_what_plain_tcp_carries():
    listener = socket.create_server(("127.0.0.1", 0))
    tap = Tap(listener.getsockname())
    with socket.create_connection(tap.address) as client:
        accepted, _ = listener.accept()
        client.sendall(MARKER)
        assert accepted.recv(100) == MARKER
        accepted.close()
    tap.close()
    listener.close()
    assert MARKER in tap.seen


def test_another_certificate_of_the_same_name_is_refused(identity):
    impostor = make_identity("vault.example", identity.suite, **TIMES)
    with TlsServer(server_context(impostor), echo) as server:
        with pytest.raises(AuthenticationError, match="did not agree on a secure connection") as caught:
            connect(server.address, client_context(identity.suite, identity.certificate))
        assert caught.value.code == "service.authentication.tls"


def test_a_gm_client_is_never_talked_down(identity):
    other = next(name for name in SuiteName if name is not identity.suite)
    with TlsServer(server_context(identity), echo) as server, pytest.raises(AuthenticationError):
        connect(server.address, client_context(other, identity.certificate))


def test_an_expired_certificate_is_refused():
    old = make_identity(
        "vault.example", SuiteName.GM, not_before="2000-01-01T00:00:00Z", not_after="2001-01-01T00:00:00Z"
    )
    with TlsServer(server_context(old), echo) as server, pytest.raises(AuthenticationError):
        connect(server.address, client_context(SuiteName.GM, old.certificate))


def test_a_connection_that_is_cut_is_not_taken_for_a_farewell(identity):
    def cut(stream):
        stream.send(b"half")
        stream._connection.sock_shutdown(socket.SHUT_RDWR)

    with (
        TlsServer(server_context(identity), cut) as server,
        connect(server.address, client_context(identity.suite, identity.certificate)) as stream,
    ):
        assert stream.receive() == b"half"
        with pytest.raises(UnavailableError, match="the connection broke off"):
            stream.receive()


def test_who_says_nothing_is_not_waited_for(identity):
    """A port where something listens that speaks no TLS, and a client that never begins its handshake."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(UnavailableError, match="did not answer in time") as raised:
            connect(silent.getsockname(), client_context(identity.suite, identity.certificate), timeout_s=0.2)
        assert raised.value.code == "service.unavailable.tls"


def test_a_server_lets_go_of_a_client_that_says_nothing(identity, monkeypatch):
    monkeypatch.setattr("sandbox.service.tls.HANDSHAKE_S", 0.2)
    with TlsServer(server_context(identity), echo) as server, socket.create_connection(server.address) as mute:
        mute.settimeout(30)
        assert mute.recv(1) == b""


@pytest.mark.parametrize("pinned", [b"", b"garbage", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_pin_that_is_no_certificate_is_told_so(identity, pinned):
    with pytest.raises(InputError) as raised:
        client_context(identity.suite, pinned)
    assert raised.value.code == "input.certificate"


def test_nobody_at_home_is_told_so():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    pinned = make_identity("vault.example", SuiteName.INTL, **TIMES).certificate
    with pytest.raises(UnavailableError, match="nothing answers at"):
        connect(address, client_context(SuiteName.INTL, pinned))


def test_the_sm2_certificate_signs_itself_under_the_standard_identity():
    made = make_identity("vault.example", SuiteName.GM, **TIMES)
    certificate = DerSequence().decode(certificate_der(made.certificate))
    body = DerSequence().decode(certificate[0])
    public = DerBitString().decode(DerSequence().decode(body[6])[1]).value
    halves = DerSequence().decode(DerBitString().decode(certificate[2]).value)
    sm2().require().verify(public, certificate[0], b"".join(int(half).to_bytes(32) for half in halves))


def test_a_key_does_not_show_in_a_representation(identity):
    assert b"PRIVATE KEY" in identity.key
    assert "PRIVATE" not in repr(identity)


@pytest.mark.parametrize(
    ("name", "times", "message"),
    [
        ("", TIMES, "cannot name a certificate"),
        ("主机", TIMES, "cannot name a certificate"),
        ("a", {**TIMES, "not_before": "yesterday"}, "time is not UTC"),
        ("a", {"not_before": TIMES["not_after"], "not_after": TIMES["not_before"]}, "ends before it begins"),
    ],
)
def test_a_certificate_that_makes_no_sense_is_refused(name, times, message):
    with pytest.raises(InputError, match=message) as caught:
        make_identity(name, SuiteName.GM, **times)
    assert caught.value.code == "input.certificate"
