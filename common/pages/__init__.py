"""Self-contained HTML pages: templates, charts, pages of evaluations and of slices."""

from .. import lazy

__getattr__ = lazy(__name__, {"evaluation": "write_pages", "handlers": "EvaluationFiles Publish"})
