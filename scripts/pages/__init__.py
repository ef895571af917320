"""Self-contained HTML pages: templates, panels and evaluations."""
