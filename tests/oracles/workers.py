"""What a DataLoader's workers fail with."""


def failure_of(loader):
    """The exception that a loader ends with. Its frames are let go at once: they hold workers that wait for seconds."""
    try:
        list(loader)
    except Exception as error:
        return error.with_traceback(None)
    return None
