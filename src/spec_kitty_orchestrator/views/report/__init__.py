"""A report for people and for programs: a page, Markdown, JSON, rows of attempts, and a trace."""
