"""Certificates in the PEM files of operators, and the causes for which they cannot be read.

cryptography reads most of a certificate on demand, and raises exceptions of many kinds, which it does not
document. OpenSSL's own have lists of codes instead of a text.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from OpenSSL import crypto

from gateway.addresses import quoted
from gateway.errors import ConfigurationError
from gateway.regular_files import read_regular_file

# The certificates of all public authorities together have about 200 KiB.
_MOST_BYTES: Final = 4 * 1024 * 1024
_END: Final = b"-----END CERTIFICATE-----"


def read_certificates(path: str) -> list[x509.Certificate]:
    """The certificates of authorities in a PEM file. Raises ConfigurationError."""
    try:
        content = read_regular_file(path, _MOST_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror}; check the path, and the file's permissions"
        ) from None
    if _END not in content:
        raise ConfigurationError(
            f"{path}: no certificate that can be read in it; name a PEM file with the authorities'"
        )
    try:
        return x509.load_pem_x509_certificates(content)
    except Exception as error:
        raise damaged_authority(path, error) from None


def damaged_authority(path: str, error: Exception) -> ConfigurationError:
    """The error for a file of authorities' certificates of which one cannot be read."""
    return ConfigurationError(
        f"{path}: a certificate in it is damaged ({cause_of(error)}); get a new copy of it, or leave it out"
    )


def cause_of(error: Exception) -> str:
    """The first line of what a library says of a certificate or key, for a line of the log."""
    text = str(error)
    if isinstance(error, crypto.Error) and error.args and error.args[0]:
        # Of each code: library, function and reason. The first is the cause of the others.
        text = error.args[0][0][-1]
    return quoted(text.partition("\n")[0] or type(error).__name__)
