"""Report.html and its figures."""
