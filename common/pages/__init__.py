"""Self-contained HTML pages: templates, charts, evaluations and slices."""

from .. import lazy

__getattr__, __dir__ = lazy(__name__, {"evaluation": "write_pages", "handlers": "EvaluationFiles"})
