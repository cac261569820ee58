"""What Prometheus sees: the catalogue of metrics, what fills it, and the page that a scrape reads."""
