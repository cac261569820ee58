"""Where cost is sent to, beside the metrics page."""
