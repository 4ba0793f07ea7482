"""The report of a search: ``report.html`` and its images."""
