"""Read the addresses, passwords and certificates of remote services from the environment."""

import errno
import os
import re
import ssl
from pathlib import Path

import requests
from requests.auth import HTTPBasicAuth

from common.errors import InputError
from common.files import check_regular


def login(address_name: str, user_name: str, file_name: str) -> tuple[str, str, str]:
    """Return a service's address, user and password from the environment variables with these names.

    The variable `file_name` holds the path of a password file. Raise an InputError for a missing or invalid variable;
    REQUESTS_CA_BUNDLE is checked, too.
    """
    url, user, password_file = (os.environ.get(name, "") for name in (address_name, user_name, file_name))
    if missing := next((name for name in (address_name, user_name, file_name) if not os.environ.get(name)), None):
        raise InputError(f"{missing}: missing from the environment")
    if not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", url):
        raise InputError(f"{address_name}: expected an address such as http://orthanc:8042, without user and password")
    try:
        check_regular(password_file)
        password = Path(password_file).read_text(encoding="utf-8").strip()
        if len(password.splitlines()) != 1:
            raise OSError(errno.EINVAL, "several lines" if password else "empty")
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"{file_name}={password_file}: {what}; expected a file with the password") from None
    if authorities := os.environ.get("REQUESTS_CA_BUNDLE"):
        try:
            check_regular(authorities)
            is_folder = Path(authorities).is_dir()
            ssl.create_default_context().load_verify_locations(*(None, authorities) if is_folder else (authorities,))
        except OSError as error:  # also ssl.SSLError
            what = "no certificates" if isinstance(error, ssl.SSLError) else error.strerror
            raise InputError(f"REQUESTS_CA_BUNDLE={authorities}: {what}; expected CA certificates") from None
    return url, user, password


def session_of(user: str, password: str) -> requests.Session:
    """Return a session for patient data: no proxies, no .netrc credentials, verified certificates."""
    session = requests.Session()
    session.trust_env = False
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True  # "" would verify nothing
    session.auth = HTTPBasicAuth(user.encode(), password.encode())  # text would be sent in Latin-1
    return session


def hint_of(error: Exception, what: str) -> str:
    """Return a hint on the certificate of the server `what` for a TLS error, else ""."""
    is_tls = isinstance(error, requests.exceptions.SSLError)
    return f"; set REQUESTS_CA_BUNDLE to a file with the certificate of {what} or of its CA" if is_tls else ""
