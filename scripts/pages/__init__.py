"""Self-contained HTML pages: templates, charts, evaluations and slices."""
