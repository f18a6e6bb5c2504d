"""The file of secrets for signed stream keys.

It is read at the start and by each reload, so the gateway's user must be able to read it.
"""

from __future__ import annotations

from pathlib import Path

from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.protocols.access import Action
from gateway.protocols.stream_keys import StreamKeys
from gateway.regular_files import read_private_file

# 128 bits, if they are random.
_LEAST_SECRET_BYTES = 16
_MOST_SECRETS = 16
_MOST_FILE_BYTES = 16 * 1024


def stream_keys(configuration: Config) -> StreamKeys | None:
    """The keys of ``[stream_keys]``; None without it. Raises ConfigurationError."""
    settings = configuration.stream_keys
    if settings is None:
        return None
    with configuration.source.at("stream_keys", "secrets_file"):
        secrets = read_secrets(Path(settings.secrets_file))
    return StreamKeys(secrets, map(Action, settings.required_for))


def read_secrets(path: Path) -> list[bytes]:
    """The lines of a file of secrets, without empty ones and comments. Raises ConfigurationError."""
    content = read_private_file(path, _MOST_FILE_BYTES)
    lines = [line.strip() for line in content.splitlines()]
    secrets = [line for line in lines if line and not line.startswith(b"#")]
    if not 1 <= len(secrets) <= _MOST_SECRETS or len(content) > _MOST_FILE_BYTES:
        raise ConfigurationError(f"{path}: expected 1 to {_MOST_SECRETS} secrets, one on each line")
    if any(len(secret) < _LEAST_SECRET_BYTES for secret in secrets):
        raise ConfigurationError(
            f"{path}: a secret has at least {_LEAST_SECRET_BYTES} characters; "
            "make one with: openssl rand -hex 32"
        )
    return secrets
