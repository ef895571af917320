"""Send alerts to a webhook: a POST of JSON that names no patient."""

import re

import requests
from urllib3.exceptions import HTTPError

from common.errors import InputError

TIMEOUTS = (5, 10)  # for connecting and for each read, seconds


def check_address(address: str) -> str:
    """Return a webhook's address, which may be empty; raise an InputError if it is not an HTTP URL.

    The message omits the address, because the address may contain a key.
    """
    if address and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", address):
        raise InputError("--alert: expected an address such as https://alerts.example/hook")
    return address


def send_alert(address: str, **content: str) -> str:
    """POST JSON such as {"study": "s5f3a9c01", "state": "held", "reason": "..."}; return "" or an error message.

    Without an address, nothing is sent. Unlike requests to Orthanc, alerts may use a proxy: the JSON names no patient.
    """
    if not address:
        return ""
    try:
        with requests.post(address, json=content, timeout=TIMEOUTS, stream=True, allow_redirects=False) as answer:
            delivered, what = answer.status_code // 100 == 2, f"status {answer.status_code}"
    except (requests.RequestException, HTTPError, UnicodeError) as error:  # the last two: invalid host
        delivered, what = False, type(error).__name__
    return "" if delivered else f"--alert: not delivered ({what})"
