"""Numbers into sentences, verdicts and figures."""
