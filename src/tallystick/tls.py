"""What went wrong with TLS while a connection was being opened, in words that name what to change."""

from __future__ import annotations

import ssl

from tallystick.errors import TlsFailed

# OpenSSL's X509_V_ERR_*: the numbers are its public interface, the texts change with its version.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAMES = (62, 64)
# What X509_V_FLAG_X509_STRICT adds, which Python sets from 3.13 on.
_NOT_STRICT = range(80, 94)
# The driver has one exception class for all of these; its texts are fixed by the version that is pinned.
_WITHOUT_TLS = ("rejected SSL upgrade", "during SSL exchange", "during TLS handshake")


def tls_failure(problem: BaseException) -> TlsFailed | None:
    """The error for a connection that failed because of TLS, or None when TLS had nothing to do with it.

    Everybody who opens connections asks here first, so that a certificate that ran out is never reported as a server
    that is down. The names in the certificate and in the URL are left out of the message.
    """
    if isinstance(problem, ssl.SSLCertVerificationError):
        code = problem.verify_code
        if code == _EXPIRED:
            return TlsFailed(
                "The server's TLS certificate has expired.",
                remedy="Renew the certificate on the server; if it is new, check this machine's clock.",
            )
        if code == _NOT_YET_VALID:
            return TlsFailed(
                "The server's TLS certificate is not valid yet.", remedy="Check the clocks of both machines."
            )
        if code in _OTHER_NAMES:
            return TlsFailed(
                "The server's TLS certificate is for another host name.",
                remedy="Write the host in the URL as the certificate does, or have one issued for that name.",
            )
        if code in _NOT_STRICT:
            return TlsFailed(
                "The server's TLS certificate, or its authority's, lacks what RFC 5280 wants in it, as Python 3.13 and "
                "later insist.",
                remedy="Have both issued anew, with key identifiers, key usage and critical basic constraints.",
            )
        return TlsFailed(
            "The server's TLS certificate is not from an authority that is trusted here.",
            remedy="Name the authority's certificate with sslrootcert=FILE in the URL.",
        )
    if isinstance(problem, ssl.SSLError):
        return TlsFailed(
            "The TLS handshake with the server failed.",
            remedy="Check that the server speaks TLS 1.2 or later, and whether it asks for a client certificate "
            "(sslcert and sslkey in the URL).",
        )
    if isinstance(problem, ConnectionError) and any(text in str(problem) for text in _WITHOUT_TLS):
        return TlsFailed(
            "The server does not offer TLS, and the URL asks for it.",
            remedy="Switch TLS on at the server (ssl = on, with a certificate); no connection is made without it "
            "unless the server is local.",
        )
    if getattr(problem, "sqlstate", None) == "28000":
        return _insists(str(problem))
    return None


def _insists(message: str) -> TlsFailed | None:
    """A server that lets nobody in without TLS, or without a certificate of the client's; it says so in English."""
    if "no encryption" in message:
        return TlsFailed(
            "The server takes no connection without TLS.",
            remedy="Add sslmode=verify-full to the URL, with sslrootcert=FILE for an authority of your own.",
        )
    if "client certificate" in message:
        return TlsFailed(
            "The server asks for a TLS certificate of the client's.",
            remedy="Name it with sslcert=FILE and sslkey=FILE in the URL.",
        )
    return None
