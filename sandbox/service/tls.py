"""TLS 1.3 for the service: with SM suites (RFC 8998) or ordinary ones, and nothing older.

The gm suite offers `TLS_SM4_GCM_SM3`, `curveSM2` and `sm2sig_sm3` alone, so that a peer without them is refused and
never talked down.  Python's own `ssl` cannot do this, pyOpenSSL can (the extra `tls`).  A client pins the server's
certificate: exactly that one is accepted, whatever authorities the machine trusts.
"""

from __future__ import annotations

import select
import socket
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from sandbox.errors import AuthenticationError, InputError, UnavailableError
from sandbox.model.keys import SuiteName
from sandbox.service.certificate import TlsIdentity, certificate_der

RECORD_BYTES = 16_384
HANDSHAKE_S = 10.0
"""How long a server waits for a client's handshake, so that one that says nothing holds no thread."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """What one suite offers and accepts."""

    ciphers: bytes
    groups: bytes
    signatures: bytes


_OFFERS = {
    SuiteName.GM: _Offer(b"TLS_SM4_GCM_SM3", b"curveSM2", b"sm2sig_sm3"),
    SuiteName.INTL: _Offer(
        b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
        b"X25519MLKEM768:X25519:P-256",
        b"ecdsa_secp256r1_sha256:ed25519",
    ),
}


def server_context(identity: TlsIdentity) -> Any:
    """Return the pyOpenSSL context of a server that shows `identity`.

    Raises:
        UnavailableError: pyOpenSSL is not installed, or its OpenSSL lacks the suite.
    """
    ssl, crypto = _openssl()
    context = _context(identity.suite)
    try:
        context.use_certificate(load_pem_x509_certificate(identity.certificate))
        with warnings.catch_warnings():
            # `cryptography` cannot hold an SM2 key, so pyOpenSSL's own key class is the only way in.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_PEM, identity.key))
        context.check_privatekey()
    except (ssl.Error, crypto.Error) as error:
        raise UnavailableError(
            "the certificate and its key cannot be used", hint="make the identity again", code="service.unavailable.tls"
        ) from error
    return context


def client_context(suite: SuiteName, pinned: bytes) -> Any:
    """Return the context of a client that accepts the certificate `pinned` (PEM) and no other.

    Raises:
        UnavailableError: pyOpenSSL is not installed, or its OpenSSL lacks the suite.
        InputError: `pinned` is no certificate (`input.certificate`).
    """
    ssl, crypto = _openssl()
    context = _context(suite)
    try:
        expected = certificate_der(pinned)
        context.get_cert_store().add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, pinned))
    except (ValueError, ssl.Error, crypto.Error) as error:
        raise InputError(
            "the pinned certificate is not one certificate in PEM",
            hint="copy the server's certificate whole, from `-----BEGIN` to `-----END CERTIFICATE-----`",
            code="input.certificate",
        ) from error

    def verify(_connection: object, shown: Any, _number: int, depth: int, preverified: int) -> bool:
        return bool(preverified) and depth == 0 and shown.to_cryptography().public_bytes(Encoding.DER) == expected

    context.set_verify(ssl.VERIFY_PEER | ssl.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
    return context


class TlsStream:
    """One connection after its handshake; a context manager.

    Args:
        connection: the pyOpenSSL connection.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._ssl, _ = _openssl()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def cipher(self) -> str:
        """The cipher suite in use, such as `TLS_SM4_GCM_SM3`."""
        return str(self._connection.get_cipher_name())

    @property
    def version(self) -> str:
        """The protocol's version: always `TLSv1.3`."""
        return str(self._connection.get_protocol_version_name())

    @property
    def group(self) -> str | None:
        """The group of the key exchange, such as `curveSM2`, where the library tells."""
        name = self._connection.get_group_name()
        return None if name is None else str(name)

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            UnavailableError: the peer is gone.
        """
        try:
            for start in range(0, len(data), RECORD_BYTES):
                self._connection.sendall(data[start : start + RECORD_BYTES])
        except (self._ssl.Error, OSError) as error:
            raise _gone() from error

    def receive(self, limit: int = RECORD_BYTES) -> bytes:
        """Return what has come, at most `limit` bytes; empty when the peer said that it is done.

        Raises:
            UnavailableError: the connection broke off without a farewell, so what came may be cut short.
        """
        try:
            return bytes(self._connection.recv(limit))
        except self._ssl.ZeroReturnError:
            return b""
        except (self._ssl.Error, OSError) as error:
            raise _gone() from error

    def finish(self) -> None:
        """Tell the peer that no more comes."""
        with suppress(self._ssl.Error, OSError):
            self._connection.shutdown()

    def close(self) -> None:
        """Say farewell and close; calling it twice does nothing more."""
        self.finish()
        with suppress(self._ssl.Error, OSError):
            self._connection.close()


def connect(address: tuple[str, int], context: Any, *, timeout_s: float = 10.0) -> TlsStream:
    """Return a stream to a server.

    Args:
        address: host and port.
        context: of `client_context`.
        timeout_s: how long to wait for an answer, and again for the handshake, in seconds.

    Raises:
        UnavailableError: nobody listens there, or who does says nothing.
        AuthenticationError: the server is not the pinned one, or shares no suite (`service.authentication.tls`).
    """
    ssl, _ = _openssl()
    try:
        plain = socket.create_connection(address, timeout=timeout_s)
    except OSError as error:
        raise UnavailableError(
            f"nothing answers at `{address[0]}:{address[1]}`", hint="start the service", code="service.unavailable.tls"
        ) from error
    connection = ssl.Connection(context, plain)
    connection.set_connect_state()
    return _after_handshake(connection, plain, timeout_s)


class TlsServer:
    """Accepts connections and hands each to `handle` in a thread of its own; a context manager.

    Args:
        context: of `server_context`.
        handle: called with the stream; an error in it ends that connection alone.
        host, port: where to listen; port 0 takes a free one.
    """

    def __init__(
        self, context: Any, handle: Callable[[TlsStream], None], *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._context = context
        self._handle = handle
        self._listener = socket.create_server((host, port))
        self._thread = threading.Thread(target=self._accept, name="tls-accept", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def close(self) -> None:
        """Take no more connections; those that are open run to their end."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), name="tls-connection", daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        ssl, _ = _openssl()
        connection = ssl.Connection(self._context, plain)
        connection.set_accept_state()
        with (
            suppress(AuthenticationError, UnavailableError),
            _after_handshake(connection, plain, HANDSHAKE_S) as stream,
        ):
            self._handle(stream)


def _after_handshake(connection: Any, plain: socket.socket, timeout_s: float) -> TlsStream:
    ssl, _ = _openssl()
    try:
        plain.setblocking(False)
        _shake_hands(connection, plain, time.monotonic() + timeout_s)
        plain.setblocking(True)  # pyOpenSSL works on blocking sockets
    except TimeoutError as error:
        plain.close()
        raise UnavailableError(
            "the other side did not answer in time",
            hint="check that a saggar service listens there",
            code="service.unavailable.tls",
        ) from error
    except (ssl.Error, OSError) as error:
        plain.close()
        raise AuthenticationError(
            "the two sides did not agree on a secure connection",
            hint="check that both use the same suite and that the pinned certificate is the server's",
            code="service.authentication.tls",
        ) from error
    return TlsStream(connection)


def _shake_hands(connection: Any, plain: socket.socket, deadline_s: float) -> None:
    """Do the handshake over a socket that does not block, or raise `TimeoutError` at the deadline."""
    ssl, _ = _openssl()
    while True:
        try:
            connection.do_handshake()
        except ssl.WantReadError:
            wanted = select.POLLIN
        except ssl.WantWriteError:
            wanted = select.POLLOUT
        else:
            return
        poll = select.poll()
        poll.register(plain, wanted)
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise TimeoutError


def _context(suite: SuiteName) -> Any:
    ssl, _ = _openssl()
    offer = _OFFERS[suite]
    context = ssl.Context(ssl.TLS_METHOD)
    context.set_min_proto_version(ssl.TLS1_3_VERSION)
    context.set_max_proto_version(ssl.TLS1_3_VERSION)
    context.set_session_cache_mode(ssl.SESS_CACHE_OFF)
    # pyOpenSSL names no way to choose groups and signatures; its library has one.
    native, handle = ssl._lib, context._context  # noqa: SLF001
    try:
        context.set_tls13_ciphersuites(offer.ciphers)
        held = native.SSL_CTX_set1_curves_list(handle, offer.groups) == 1
        held = held and native.SSL_CTX_set1_sigalgs_list(handle, offer.signatures) == 1
    except ssl.Error:
        held = False
    if not held:
        raise UnavailableError(
            f"the OpenSSL of pyOpenSSL lacks TLS with the suite `{suite.value}`",
            hint="update `cryptography` and pyOpenSSL together",
            code="service.unavailable.tls",
        )
    return context


def _openssl() -> tuple[Any, Any]:
    try:
        from OpenSSL import SSL, crypto
    except ImportError as error:
        raise UnavailableError(
            "pyOpenSSL is not installed", hint="install `saggar[tls]`", code="service.unavailable.tls"
        ) from error
    return SSL, crypto


def _gone() -> UnavailableError:
    return UnavailableError(
        "the connection broke off", hint="connect again; nothing half-received counts", code="service.unavailable.tls"
    )
