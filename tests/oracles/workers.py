"""The exception of a DataLoader's worker."""


def failure_of(loader):
    """The exception that ends a loader, or None; without its traceback, which would keep workers alive for seconds."""
    try:
        list(loader)
    except Exception as error:
        return error.with_traceback(None)
    return None
